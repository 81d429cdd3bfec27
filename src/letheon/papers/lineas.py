"""LinEAS: End-to-end Learning of Activation Steering with a Distributional Loss.

arXiv 2503.10679, 2025-03; NeurIPS 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=22,
    key="lineas",
    title="LinEAS: End-to-end Learning of Activation Steering with a Distributional Loss",
    date="2025-03",
    arxiv="2503.10679",
    room="steer/methods/lineas",
    gives="An affine steering map trained end to end across layers, sparse if wanted.",
    claim=(
        "The held-out distributional loss is below that of linear AcT, which fits each layer alone; "
        "sparsity shrinks the support, at the end to exactly nothing."
    ),
)
