"""Gated-SwinRMT: Unifying Swin Windowed Attention with Retentive Manhattan Decay via Input-Dependent Gating.

arXiv 2604.06014, 2026-04.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=6,
    key="gated-swinrmt",
    title=("Gated-SwinRMT: Unifying Swin Windowed Attention with Retentive Manhattan Decay via Input-Dependent Gating"),
    date="2026-04",
    arxiv="2604.06014",
    room="attend/gated_swinrmt",
    gives=(
        "Two image backbones in the manner of timm: windowed attention with Manhattan decay and an "
        "input-dependent gate."
    ),
    claim=(
        "At equal parameters and training, accuracy is measured against the RMT baseline and the same "
        "blocks without a gate; decay masks and gates are verified by an oracle."
    ),
)
