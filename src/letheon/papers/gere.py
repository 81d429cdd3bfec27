"""GeRe: Towards Efficient Anti-Forgetting in Continual Learning of LLM via General Samples Replay.

arXiv 2508.04676, 2025-08.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=35,
    key="gere",
    title="GeRe: Towards Efficient Anti-Forgetting in Continual Learning of LLM via General Samples Replay",
    date="2025-08",
    arxiv="2508.04676",
    room="retain/strategies/gere",
    gives="Replay of a small fixed set of general texts, with a margin that keeps the states of activations.",
    claim=(
        "The rise of perplexity and the share of flipped activation states are largest without replay, "
        "smaller with cross-entropy replay, and with the margin loss no larger than that; accuracy on the "
        "old task is higher with replay than without."
    ),
)
