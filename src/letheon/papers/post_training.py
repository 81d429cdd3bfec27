"""How Post-Training Reshapes LLMs: A Mechanistic View on Knowledge, Truthfulness, Refusal, and Confidence.

arXiv 2504.02904, 2025-04; COLM 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=53,
    key="post-training",
    title=("How Post-Training Reshapes LLMs: A Mechanistic View on Knowledge, Truthfulness, Refusal, and Confidence"),
    date="2025-04",
    arxiv="2504.02904",
    room="probe/post_training",
    gives="What post-training moved inside a model: knowledge, truth, refusal, confidence.",
    claim=(
        "The truth direction transfers from base to post-trained model, its cosine far above that of the "
        "refusal direction; the locations of knowledge are unchanged; shuffled controls are near 0."
    ),
)
