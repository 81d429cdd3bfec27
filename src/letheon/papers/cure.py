"""CURE: Circuit-Aware Unlearning for LLM-based Recommendation.

arXiv 2604.04982, 2026-04.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=27,
    key="cure",
    title="CURE: Circuit-Aware Unlearning for LLM-based Recommendation",
    date="2026-04",
    arxiv="2604.04982",
    room="forget/scopes/circuit",
    gives=(
        "Unlearning that sorts a model's circuit into forget, retain and shared modules and treats each in its own way."
    ),
    claim=(
        "Divergence from the retrained model is lower at higher utility than with uniform updates; "
        "grouping the modules at random loses the advantage."
    ),
)
