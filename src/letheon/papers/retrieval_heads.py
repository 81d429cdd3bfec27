"""Retrieval Head Mechanistically Explains Long-Context Factuality.

arXiv 2404.15574, 2024-04; ICLR 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=16,
    key="retrieval-heads",
    title="Retrieval Head Mechanistically Explains Long-Context Factuality",
    date="2024-04",
    arxiv="2404.15574",
    room="probe/retrieval_heads",
    gives="The attention heads that fetch facts from the context, with a score for each.",
    claim=(
        "Split-half reliability of the scores is > 0.8; masking the top heads ruins recall far beyond "
        "random masks of the same size; a model trained to copy has a head with a score near 1."
    ),
)
