"""Fine-Grained Activation Steering: Steering Less, Achieving More.

arXiv 2602.04428, 2026-02; ICLR 2026.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=25,
    key="austeer",
    title="Fine-Grained Activation Steering: Steering Less, Achieving More",
    date="2026-02",
    arxiv="2602.04428",
    room="steer/methods/austeer",
    gives="Steering of at most a hundred scalars instead of a whole block.",
    claim=(
        "With <= 100 scalars, chosen on validation data only, it beats the same number of random units "
        "and matches or beats steering of whole blocks."
    ),
)
