"""How new data permeates LLM knowledge and how to dilute it.

arXiv 2504.09522, 2025-04; Sun et al., ICLR 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=57,
    key="outlandish",
    title="How new data permeates LLM knowledge and how to dilute it",
    date="2025-04",
    arxiv="2504.09522",
    room="retain/strategies/dilution, measure/priming",
    gives="New facts learned without priming everything that is related to them.",
    claim=(
        "A low probability of the key word before learning predicts strong priming after it; ignoring the "
        "top 8% of the update cuts priming and keeps memorisation, which random masks do not; "
        "stepping-stone rewriting of the text helps."
    ),
)
