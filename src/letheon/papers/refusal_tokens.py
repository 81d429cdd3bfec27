"""Refusal Tokens: A Simple Way to Calibrate Refusals in Large Language Models.

arXiv 2412.06748, 2024-12; COLM 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=43,
    key="refusal-tokens",
    title="Refusal Tokens: A Simple Way to Calibrate Refusals in Large Language Models",
    date="2024-12",
    arxiv="2412.06748",
    room="steer/methods/refusal_tokens",
    gives="A dial for each kind of refusal, turned at inference time.",
    claim=(
        "The AUROC of the refusal token's probability is well above 0.5; moving the threshold traces the "
        "trade-off between refusing too much and too little; control per category is diagonal, each token "
        "moving its own category."
    ),
)
