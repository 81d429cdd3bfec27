"""Psycholinguistic Word Features: a New Approach for the Evaluation of LLMs Alignment with Humans.

arXiv 2506.22439, 2025-05; Conde et al., GEM workshop 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=17,
    key="word-features",
    title="Psycholinguistic Word Features: a New Approach for the Evaluation of LLMs Alignment with Humans",
    date="2025-05",
    arxiv="2506.22439",
    room="measure/human/word_features",
    gives="A model's ratings of words on thirteen features, set against the Glasgow and Lancaster norms.",
    claim=(
        "Correlations with the Glasgow norms are given feature by feature with intervals; a small model "
        "that is fine-tuned or probed correlates better than the same model zero-shot; the check-points "
        "known from the published data are reproduced."
    ),
)
