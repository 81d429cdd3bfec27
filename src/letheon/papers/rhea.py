"""Rhea: Role-aware Heuristic Episodic Attention for Conversational LLMs.

arXiv 2512.06869, 2025-12; Hong et al..
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=41,
    key="rhea",
    title="Rhea: Role-aware Heuristic Episodic Attention for Conversational LLMs",
    date="2025-12",
    arxiv="2512.06869",
    room="recall/rhea",
    gives="A role-aware memory for a chat model: instructions kept whole, episodes retrieved.",
    claim=(
        "Adherence to rules stays flat over turns where full history falls, with fewer prompt tokens; "
        "each ablation loses what it should: rules without the instruction memory, facts without "
        "retrieval."
    ),
)
