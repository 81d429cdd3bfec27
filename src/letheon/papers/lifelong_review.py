"""Continual Lifelong Learning with Neural Networks: A Review.

arXiv 1802.07569, 2018-02; Parisi, Kemker, Part, Kanan, Wermter, Neural Networks 113, 2019.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=51,
    key="lifelong-review",
    title="Continual Lifelong Learning with Neural Networks: A Review",
    date="2018-02",
    arxiv="1802.07569",
    room="retain (baselines), docs",
    gives="EWC, SI, LwF, GEM, progressive networks, replay and growing networks under one protocol.",
    claim=(
        "In class-incremental learning regularisation is about as bad as naive training and replay far "
        "better; in task-incremental learning regularisation is far better than naive; progressive "
        "networks forget exactly 0."
    ),
)
