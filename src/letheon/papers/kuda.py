"""KUDA: Knowledge Unlearning by Deviating Representation for Large Language Models.

arXiv 2602.19275, 2026-02.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=28,
    key="kuda",
    title="KUDA: Knowledge Unlearning by Deviating Representation for Large Language Models",
    date="2026-02",
    arxiv="2602.19275",
    room="forget/objectives/kuda",
    gives=(
        "Representations made to deviate in the traced layers, with updates held to a relaxed null space "
        "of what is retained."
    ),
    claim=(
        "The cosine to the original representation falls near or below 0 on forget data and stays > 0.95 "
        "on retain data; projection keeps more than no projection at equal forgetting; a threshold that "
        "is too strict stops forgetting."
    ),
)
