"""Unforgettable Generalization in Language Models.

arXiv 2409.02228, 2024-09; Zhang, Choshen, Andreas, COLM 2024.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=40,
    key="unforgettable",
    title="Unforgettable Generalization in Language Models",
    date="2024-09",
    arxiv="2409.02228",
    room="probe/forgetting_depth",
    gives="Whether the forgetting of a skill generalised, and whether it is deep.",
    claim=(
        "Forgetting of rule tasks generalises to new inputs and forgetting of fact tasks does not; low "
        "confidence and low variability of representations predict which; linear probes recover the "
        "forgotten answers."
    ),
)
