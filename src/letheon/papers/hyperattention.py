"""HyperAttention: Long-context Attention in Near-Linear Time.

arXiv 2310.05869, 2023-10; ICLR 2024.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=39,
    key="hyperattention",
    title="HyperAttention: Long-context Attention in Near-Linear Time",
    date="2023-10",
    arxiv="2310.05869",
    room="attend/hyper",
    gives="Attention over long contexts in near-linear time, a drop-in for transformers models.",
    claim=(
        "It is faster than PyTorch's scaled_dot_product_attention, with a ratio that grows in n (>= 5x "
        "causal at 131k tokens on CPU), at a stated error on real activations."
    ),
)
