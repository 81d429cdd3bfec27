"""Separating Constraint Compliance from Semantic Accuracy: A Novel Benchmark for Evaluating Instruction-
Following Under Compression.

arXiv 2512.17920, 2025-12; Baxi.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=31,
    key="compression-decay",
    title=(
        "Separating Constraint Compliance from Semantic Accuracy: A Novel Benchmark for Evaluating "
        "Instruction-Following Under Compression"
    ),
    date="2025-12",
    arxiv="2512.17920",
    room="measure/compression_decay",
    gives=("Two separate curves, compliance with instructions and accuracy of content, as the prompt is compressed."),
    claim=(
        "Scoring, Fleiss' kappa and the test for a U-curve are right on constructed cases; a control with "
        "matched prompts shows that the dip at c = .5 is confounded with a change of the instruction; the "
        "curve of a real model is drawn."
    ),
)
