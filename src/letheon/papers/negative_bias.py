"""A Multifaceted Analysis of Negative Bias in Large Language Models through the Lens of Parametric Knowledge.

arXiv 2511.10881, 2025-11; IEEE TASLP; predecessor NASA, arXiv 2408.00137.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=47,
    key="negative-bias",
    title=(
        "A Multifaceted Analysis of Negative Bias in Large Language Models through the Lens of Parametric Knowledge"
    ),
    date="2025-11",
    arxiv="2511.10881",
    room="probe/negative_bias",
    gives='A model\'s bias toward "no", by its knowledge and by prompt format, and the heads that carry it.',
    claim=(
        "The bias is larger where the model's knowledge is insufficient; ablating the bias's heads moves "
        "it, and ablating as many random heads does not."
    ),
)
