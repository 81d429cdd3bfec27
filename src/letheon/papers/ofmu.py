"""OFMU: Optimization-Driven Framework for Machine Unlearning.

arXiv 2509.22483, 2025-09; ICLR 2026.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=20,
    key="ofmu",
    title="OFMU: Optimization-Driven Framework for Machine Unlearning",
    date="2025-09",
    arxiv="2509.22483",
    room="forget/updates/bilevel",
    gives="Bilevel unlearning by a penalty: forget inside, keep utility outside.",
    claim=(
        "beta > 0 drives the cosine of forget and retain gradients toward 0; a growing rho lowers the "
        "stationarity gap of the inner problem; on quadratics the iterates reach the constrained "
        "minimiser."
    ),
)
