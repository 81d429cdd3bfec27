"""Mixing Mechanisms: How Language Models Retrieve Bound Entities In-Context.

arXiv 2510.06182, 2025-10; ICLR 2026.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=26,
    key="binding",
    title="Mixing Mechanisms: How Language Models Retrieve Bound Entities In-Context",
    date="2025-10",
    arxiv="2510.06182",
    room="probe/binding",
    gives="How a model looks up bound entities: by position, by word, or by a pointer to the answer itself.",
    claim=(
        "On a trained model the fitted mixture of the three mechanisms predicts held-out interventions "
        "with a Jensen-Shannon similarity > 0.9 and beats every ablation of itself."
    ),
)
