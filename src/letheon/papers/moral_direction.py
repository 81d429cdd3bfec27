"""Large Pre-trained Language Models Contain Human-like Biases of What is Right and Wrong to Do.

arXiv 2103.11790, 2021-03; Nature Machine Intelligence 2022.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=44,
    key="moral-direction",
    title="Large Pre-trained Language Models Contain Human-like Biases of What is Right and Wrong to Do",
    date="2021-03",
    arxiv="2103.11790",
    room="steer/methods/moral_direction",
    gives="Phrases rated between do and don't, and generation steered by the rating.",
    claim=(
        "The released score files give r = 0.815 and 0.838 against human ratings; on a model, the "
        "correlation of its moral direction lies above that of random directions, with an interval."
    ),
)
