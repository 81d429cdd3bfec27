"""Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction.

arXiv 2502.02046, 2025-02.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=24,
    key="reweaving",
    title="Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction",
    date="2025-02",
    arxiv="2502.02046",
    room="attend/reweaving",
    gives="Layered latent state reconstruction, added to a model that exists already.",
    claim=(
        "With its gate at 0 the module is a bit-exact no-op; with trained gates it lowers the loss or "
        "raises recall on long inputs against controls of equal parameters, among them a wider "
        "feed-forward layer and shuffled states."
    ),
)
