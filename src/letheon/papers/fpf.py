"""Does Continual Learning Equally Forget All Parameters?.

arXiv 2304.04158, 2023-04; ICML 2023.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=18,
    key="fpf",
    title="Does Continual Learning Equally Forget All Parameters?",
    date="2023-04",
    arxiv="2304.04158",
    room="retain/strategies/fpf",
    gives=(
        "Repair after continual learning: finetune only the forgetful parameters, once (FPF) or k times "
        "along the stream (k-FPF)."
    ),
    claim=(
        "Classifier and normalisation parameters move >= 5x more per parameter than hidden weights; "
        "finetuning them restores far more accuracy than finetuning other layers for as many steps; k-FPF "
        "comes near experience replay at a fraction of the replayed samples."
    ),
)
