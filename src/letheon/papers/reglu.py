"""Representation-Guided Parameter-Efficient LLM Unlearning.

arXiv 2604.17396, 2026-04; Findings of ACL 2026.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=9,
    key="reglu",
    title="Representation-Guided Parameter-Efficient LLM Unlearning",
    date="2026-04",
    arxiv="2604.17396",
    room="forget/scopes/reglu",
    gives=(
        "A LoRA adapter that starts in the subspace of the forget outputs and stays off the subspace of "
        "the retain outputs."
    ),
    claim=(
        "At equal forgetting, the probability of retained answers is higher, and the leakage into "
        "retained outputs lower, than with default LoRA."
    ),
)
