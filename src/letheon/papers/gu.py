"""Geometric-disentanglement Unlearning.

arXiv 2511.17100, 2025-11; v4 of February 2026.
Not the method of arXiv 2605.01735, which carries a similar name and aligns hidden states.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=4,
    key="gu",
    title="Geometric-disentanglement Unlearning",
    date="2025-11",
    arxiv="2511.17100",
    room="forget/updates/geometric",
    gives="Any forget objective, taken without first-order damage to what is retained.",
    claim=(
        "One step changes the retain loss by O(eta^2) where the plain step changes it by O(eta); the step "
        "that the optimizer really takes satisfies <g_r, dtheta> <= 0; and at equal forgetting the "
        "extraction strength of the retain set is not lower than under the plain step."
    ),
    methods=("geometric",),
)
