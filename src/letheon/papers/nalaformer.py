"""NaLaFormer: Norm-Aware Linear Attention for Transformer Models.

arXiv 2506.21137, 2025-06; ICML 2026; v3 retitled Norm x Direction.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=33,
    key="nalaformer",
    title="NaLaFormer: Norm-Aware Linear Attention for Transformer Models",
    date="2025-06",
    arxiv="2506.21137",
    room="attend/nalaformer",
    gives="Linear attention that feels the norm of the query.",
    claim=(
        "The entropy of attention falls with the query norm as softmax's does, while plain linear "
        "attention's does not; the linear form equals the explicit one; on a recall task it lies above "
        "ReLU linear attention, and freezing the power loses the gain."
    ),
)
