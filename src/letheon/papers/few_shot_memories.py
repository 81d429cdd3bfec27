"""Recognition, recall, and retention of few-shot memories in large language models.

arXiv 2303.17557, 2023-03; Orhan.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=13,
    key="few-shot-memories",
    title="Recognition, recall, and retention of few-shot memories in large language models",
    date="2023-03",
    arxiv="2303.17557",
    room="measure/few_shot_memories",
    gives="Recognition, recall and retention curves of a model for sentences that it saw one to three times.",
    claim=(
        "Recognition exceeds 0.9 after one exposure at a fitting learning rate; recall is slower and "
        "rises with the number of exposures k; during later training recall decays faster than "
        "recognition."
    ),
)
