"""Long-Term Ad Memorability: Understanding & Generating Memorable Ads.

arXiv 2309.00378, 2023-09; LAMBDA, Henry and SEED; WACV 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=23,
    key="ad-memorability",
    title="Long-Term Ad Memorability: Understanding & Generating Memorable Ads",
    date="2023-09",
    arxiv="2309.00378",
    room="measure/human/memorability",
    gives="Predict how well an advertisement is remembered, and write ads that are remembered better.",
    claim=(
        "On generated ads a known law of memorability is recovered near its noise ceiling; on real "
        "verbalised ads the rank correlation is given with its interval, against the mean, zero-shot "
        "prompting and ridge regression on text features."
    ),
)
