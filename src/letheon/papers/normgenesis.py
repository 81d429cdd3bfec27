"""NormGenesis: Multicultural Dialogue Generation via Exemplar-Guided Social Norm Modeling and Violation
Recovery.

arXiv 2509.18395, 2025-09; Hong, Choi, Kim, EMNLP 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=54,
    key="normgenesis",
    title=(
        "NormGenesis: Multicultural Dialogue Generation via Exemplar-Guided Social Norm Modeling and Violation Recovery"
    ),
    date="2025-09",
    arxiv="2509.18395",
    room="measure/normgenesis",
    gives="Generation and judgement of norm dialogues in three cultures, from violation to resolution.",
    claim=(
        "The pipeline refines scenario and situation with exemplars before a dialogue is written; the "
        "statistics of the released dialogues are reproduced."
    ),
)
