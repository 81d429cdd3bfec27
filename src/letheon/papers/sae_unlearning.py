"""Sparse-Autoencoder-Guided Internal Representation Unlearning for Large Language Models.

arXiv 2509.15631, 2025-09; Yamashita et al..
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=38,
    key="sae-unlearning",
    title="Sparse-Autoencoder-Guided Internal Representation Unlearning for Large Language Models",
    date="2025-09",
    arxiv="2509.15631",
    room="forget/objectives/sae",
    gives="A target that looks unknown to the model in a sparse latent space.",
    claim=(
        "On held-out probes the target moves to the side of unknown entities, which gradient ascent does "
        "not achieve, and the retained entities stay where they were."
    ),
)
