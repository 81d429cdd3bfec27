"""FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning.

arXiv 2601.21682, 2026-01; v2 retitled FIT to Forget.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=52,
    key="fit",
    title="FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning",
    date="2026-01",
    arxiv="2601.21682",
    room="forget/sequence",
    gives="Hundreds of deletion requests, served one after another.",
    claim=(
        "Forget degree and retain utility are measured over >= 100 requests: plain methods collapse and "
        "FIT does not; leaving out any of its three parts (filtering, importance, targeted layers) makes "
        "it worse."
    ),
)
