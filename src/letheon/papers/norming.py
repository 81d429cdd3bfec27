"""Adding LLMs to the psycholinguistic norming toolbox: A practical guide to getting the most out of human
ratings.

arXiv 2509.14405, 2025-09; Conde et al..
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=3,
    key="norming",
    title=(
        "Adding LLMs to the psycholinguistic norming toolbox: A practical guide to getting the most out "
        "of human ratings"
    ),
    date="2025-09",
    arxiv="2509.14405",
    room="measure/human/norming",
    gives=(
        "A norming pipeline for word ratings: prompt or fine-tune a model, estimate, validate against people, report."
    ),
    claim=(
        "Recomputed from the published estimates, Spearman correlation with human familiarity is .82 for "
        "the base model, .92 after fine-tuning and .80 between two human norms; on a small real model, "
        "fine-tuning or a linear probe beats zero-shot prompting, which fails at this size and is "
        "reported as failing."
    ),
)
