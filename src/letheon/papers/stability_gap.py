"""Continual evaluation for lifelong learning: Identifying the stability gap.

arXiv 2205.13452, 2022-05; ICLR 2023.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=36,
    key="stability-gap",
    title="Continual evaluation for lifelong learning: Identifying the stability gap",
    date="2022-05",
    arxiv="2205.13452",
    room="retain/metrics",
    gives="Evaluation after every iteration of continual learning, with worst-case metrics.",
    claim=(
        "Under experience replay the minimum accuracy lies far below the final one; the gap vanishes from "
        "view when accuracy is evaluated only at the ends of tasks."
    ),
)
