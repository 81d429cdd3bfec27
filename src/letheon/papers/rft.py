"""Reinforcement Fine-Tuning Naturally Mitigates Forgetting in Continual Post-Training.

arXiv 2507.05386, 2025-07; ICML 2026.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=49,
    key="rft",
    title="Reinforcement Fine-Tuning Naturally Mitigates Forgetting in Continual Post-Training",
    date="2025-07",
    arxiv="2507.05386",
    room="retain/strategies/rft",
    gives="Reinforcement fine-tuning that filters its rollouts.",
    claim=(
        "At equal accuracy on the new task, accuracy on the old task is higher under GRPO than under "
        "supervised fine-tuning; the same holds without the KL penalty."
    ),
)
