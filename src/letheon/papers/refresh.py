"""A Unified and General Framework for Continual Learning.

arXiv 2403.13249, 2024-03; ICLR 2024.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=42,
    key="refresh",
    title="A Unified and General Framework for Continual Learning",
    date="2024-03",
    arxiv="2403.13249",
    room="retain/strategies/refresh",
    gives=(
        "One objective with EWC, CPR, ER and DER as special cases, and refresh learning: unlearn a batch, "
        "then relearn it."
    ),
    claim=(
        "Each special case equals its direct formula to 1e-6; the effect of refresh on sharpness and on "
        "accuracy is given with error bars."
    ),
)
