"""Do Your Best and Get Enough Rest for Continual Learning.

arXiv 2503.18371, 2025-03; CVPR 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=32,
    key="view-batch",
    title="Do Your Best and Get Enough Rest for Continual Learning",
    date="2025-03",
    arxiv="2503.18371",
    room="retain/strategies/view_batch",
    gives="Longer intervals between two visits of a sample, with many views at each visit.",
    claim=(
        "The realised recall interval equals V*D for V views and D samples; forgetting falls and then "
        "rises with V, against controls of equal augmentation and of equal steps."
    ),
)
