"""Does Learning Require Memorization? A Short Tale about a Long Tail.

arXiv 1906.05271, 2019-06; Feldman, STOC 2020; with Feldman & Zhang, What Neural Networks Memorize and Why,
arXiv 2008.03703.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=37,
    key="long-tail",
    title="Does Learning Require Memorization? A Short Tale about a Long Tail",
    date="2019-06",
    arxiv="1906.05271",
    room="measure/memorization",
    gives="Memorisation and influence scores for every training point.",
    claim=(
        "Flipped labels are found with AUROC > 0.9; the bound with tau_1 on the error of learners that do "
        "not memorise singletons holds; removing memorised points hurts the tail of rare classes most."
    ),
)
