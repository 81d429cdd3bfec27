"""U-CAN: Utility-Aware Contrastive Attenuation for Efficient Unlearning in Generative Recommendation.

arXiv 2602.23400, 2026-02.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=1,
    key="u-can",
    title=("U-CAN: Utility-Aware Contrastive Attenuation for Efficient Unlearning in Generative Recommendation"),
    date="2026-02",
    arxiv="2602.23400",
    room="forget/edits/attenuation",
    gives="LoRA adapters cleaned of the traces of a group of users, in one pass and without training.",
    claim=(
        "At equal recall on the forgotten interactions, contrastive attenuation keeps more recall on the "
        "retained ones than hard pruning of the same dimensions and than attenuating random dimensions; "
        "the distance to a retrained adapter is printed beside it."
    ),
)
