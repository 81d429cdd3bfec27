"""UER: A Heuristic Bias Addressing Approach for Online Continual Learning.

arXiv 2309.04081, 2023-09; ACM MM 2023.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=11,
    key="uer",
    title="UER: A Heuristic Bias Addressing Approach for Online Continual Learning",
    date="2023-09",
    arxiv="2309.04081",
    room="retain/strategies/uer",
    gives="Online class-incremental learning that splits a logit into angle and norm.",
    claim="Over several seeds, accuracy on old tasks and average accuracy are both above experience replay.",
)
