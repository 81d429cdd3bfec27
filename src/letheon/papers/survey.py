"""Digital Forgetting in Large Language Models: A Survey of Unlearning Methods.

arXiv 2404.02062, 2024-04; Artificial Intelligence Review 58(3):90, 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=19,
    key="survey",
    title="Digital Forgetting in Large Language Models: A Survey of Unlearning Methods",
    date="2024-04",
    arxiv="2404.02062",
    room="forget (baselines), docs",
    gives="One working method of every family of unlearning in the survey, and one table that compares them.",
    claim=(
        "The table is filled for every family (guarantee, extraction, membership inference, utility, "
        "cost), against a model retrained from scratch; in-context unlearning leaves membership inference "
        "unchanged."
    ),
)
