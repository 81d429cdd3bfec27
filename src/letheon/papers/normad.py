"""NormAd: A Framework for Measuring the Cultural Adaptability of Large Language Models.

arXiv 2404.12464, 2024-04; Rao et al., NAACL 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=48,
    key="normad",
    title="NormAd: A Framework for Measuring the Cultural Adaptability of Large Language Models",
    date="2024-04",
    arxiv="2404.12464",
    room="measure/normad",
    gives="Cultural adaptability at three levels of context: country, country and value, rule of thumb.",
    claim=(
        "Scoring is right on constructed cases; accuracy by level and by region is measured for a real "
        "model on the user's own copy of the data."
    ),
)
