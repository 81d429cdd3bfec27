"""Understanding Transformers through the Lens of Pavlovian Conditioning.

arXiv 2508.08289, 2025-08; Qiao; v3 retitled Attention as Conditioning.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=14,
    key="pavlovian",
    title="Understanding Transformers through the Lens of Pavlovian Conditioning",
    date="2025-08",
    arxiv="2508.08289",
    room="attend/pavlovian",
    gives="Attention as conditioning: a Hebbian associative memory, its capacity, and delta rules beside it.",
    claim=(
        "Retrieval collapses once more than O(d_k) pairs are stored, d_k being the key dimension; linear "
        "attention equals the Hebbian recursion to rounding."
    ),
)
