"""Human-Like Lifelong Memory: A Neuroscience-Grounded Architecture for Infinite Interaction.

arXiv 2603.29023, 2026-03; Lerma-Torres, ICLR 2026 MemAgents workshop.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=7,
    key="lifelong",
    title="Human-Like Lifelong Memory: A Neuroscience-Grounded Architecture for Infinite Interaction",
    date="2026-03",
    arxiv="2603.29023",
    room="recall/lifelong",
    gives=(
        "A memory for conversations with valence, beliefs, and two systems of retrieval, one automatic "
        "and one deliberate."
    ),
    claim=(
        "Seven properties hold, one test each; the share of deliberate (System 2) calls and the cost per "
        "query fall over sessions while accuracy does not, against full history, a last-k window, a plain "
        "vector store and System 2 always on."
    ),
)
