"""RWKU: Benchmarking Real-World Knowledge Unlearning for Large Language Models.

arXiv 2406.10890, 2024-06; NeurIPS 2024 Datasets and Benchmarks.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=21,
    key="rwku",
    title="RWKU: Benchmarking Real-World Knowledge Unlearning for Large Language Models",
    date="2024-06",
    arxiv="2406.10890",
    room="measure/rwku",
    gives="The benchmark: three levels of probe, nine attacks, four membership tests, and utility.",
    claim=(
        "All metrics run on real RWKU targets; the scoring equals the benchmark's rules on hand-made "
        "cases; gradient ascent and NPO lower recall of the target more than recall of its neighbours."
    ),
)
