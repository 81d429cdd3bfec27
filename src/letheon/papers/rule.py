"""RULE: Reinforcement UnLEarning Achieves Forget-Retain Pareto Optimality.

arXiv 2506.07171, 2025-06; NeurIPS 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=10,
    key="rule",
    title="RULE: Reinforcement UnLEarning Achieves Forget-Retain Pareto Optimality",
    date="2025-06",
    arxiv="2506.07171",
    room="forget/reinforce",
    gives="A model that refuses questions about the target, and only those.",
    claim=(
        "Refusal boundary optimisation raises refusal on the target and lowers refusal on its neighbours "
        "compared with rejection steering alone; trained on reject-only data, it over-refuses."
    ),
)
