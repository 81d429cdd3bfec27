"""On the Existence and Behaviour of Secondary Attention Sinks.

arXiv 2512.22213, 2025-12; ICLR 2026 workshop.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=8,
    key="secondary-sinks",
    title="On the Existence and Behaviour of Secondary Attention Sinks",
    date="2025-12",
    arxiv="2512.22213",
    room="probe/sinks",
    gives=("The attention sinks of a model: where they are, how strong, how long they last, and which MLP makes them."),
    claim=(
        "Planted sinks are found together with their lifetime; their strength sets both the sink score "
        "and the lifetime; random directions of equal norm are not found."
    ),
)
