"""The Metacognitive Monitoring Battery: A Cross-Domain Benchmark for LLM Self-Monitoring.

arXiv 2604.15702, 2026-04; Cacioli.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=12,
    key="metacognition",
    title="The Metacognitive Monitoring Battery: A Cross-Domain Benchmark for LLM Self-Monitoring",
    date="2026-04",
    arxiv="2604.15702",
    room="measure/metacognition",
    gives="A battery in six domains that asks whether a model knows when it is wrong.",
    claim=(
        "Recomputed from the published responses, the withdraw delta, the profiles and the ranks equal "
        "the published aggregates; response files that are byte-identical although they bear the names of "
        "different models are found and flagged."
    ),
)
