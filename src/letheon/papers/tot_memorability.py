"""Unsupervised Memorability Modeling from Tip-of-the-Tongue Retrieval Queries.

arXiv 2511.20854, 2025-11; Bhattacharyya et al., WACV 2026.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=29,
    key="tot-memorability",
    title="Unsupervised Memorability Modeling from Tip-of-the-Tongue Retrieval Queries",
    date="2025-11",
    arxiv="2511.20854",
    room="measure/human/tip_of_tongue",
    gives=("Retrieval of content from tip-of-the-tongue queries, and generation of what people would recall of it."),
    claim=(
        "In mean reciprocal rank a contrastive retriever is above BM25 and BM25 above random order; "
        "generated recall covers the salient details."
    ),
)
