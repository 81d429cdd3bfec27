"""Gauss-Newton Unlearning for the LLM Era.

arXiv 2602.10568, 2026-02; IEEE SaTML 2026.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=55,
    key="k-fade",
    title="Gauss-Newton Unlearning for the LLM Era",
    date="2026-02",
    arxiv="2602.10568",
    room="forget/updates/gauss_newton",
    gives="A few uphill Gauss-Newton steps, and an update that can be applied again later.",
    claim=(
        "The step matches the exact Gauss-Newton step on small models; at equal forgetting the retain "
        "outputs change less than under gradient ascent; applied again after further training, the update "
        "still works."
    ),
)
