"""InTAct: Interval-based Task Activation Consolidation for Continual Learning.

arXiv 2511.17439, 2025-11.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=15,
    key="intact",
    title="InTAct: Interval-based Task Activation Consolidation for Continual Learning",
    date="2025-11",
    arxiv="2511.17439",
    room="retain/strategies/intact",
    gives="Layers whose map is protected on the interval of activations that earlier tasks used.",
    claim=(
        "Forgetting falls monotonically in lambda, average accuracy peaks at a lambda between the "
        "extremes, and the peak lies above EWC on the same head."
    ),
)
