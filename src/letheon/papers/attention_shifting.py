"""Wisdom is Knowing What not to Say: Hallucination-Free LLMs Unlearning via Attention Shifting.

arXiv 2510.17210, 2025-10; NeurIPS 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=30,
    key="attention-shifting",
    title="Wisdom is Knowing What not to Say: Hallucination-Free LLMs Unlearning via Attention Shifting",
    date="2025-10",
    arxiv="2510.17210",
    room="forget/objectives/attention_shifting",
    gives="Unlearning that moves attention off the facts, so that the model does not make up others instead.",
    claim=(
        "At equal forgetting it keeps neighbouring knowledge and perplexity best, against gradient ascent "
        "with and without cross-entropy and NPO with KL; answers that name a wrong entity are near 0 at "
        "lambda 0.99."
    ),
)
