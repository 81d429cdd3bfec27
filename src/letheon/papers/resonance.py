"""Exploring Synaptic Resonance in Large Language Models: A Novel Approach to Contextual Memory Integration.

arXiv 2502.10699, 2025-02; Applegarth et al..
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=56,
    key="resonance",
    title=("Exploring Synaptic Resonance in Large Language Models: A Novel Approach to Contextual Memory Integration"),
    date="2025-02",
    arxiv="2502.10699",
    room="attend/resonance",
    gives="Synaptic resonance as an add-on to the attention of a model.",
    claim=(
        "Switched off, the add-on is bit-exact; trained, its effect on recall and on robustness to noise "
        "is measured against controls of equal parameters."
    ),
)
