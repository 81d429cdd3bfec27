"""Standard vs. Modular Sampling: Best Practices for Reliable LLM Unlearning.

arXiv 2509.05316, 2025-08; WIPE-OUT workshop at ECML-PKDD 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=2,
    key="melu",
    title="Standard vs. Modular Sampling: Best Practices for Reliable LLM Unlearning",
    date="2025-08",
    arxiv="2509.05316",
    room="forget/samplers/modular",
    gives=("Batches that pair each forget row of an entity with its own direct, indirect and general neighbours."),
    claim=(
        "At equal optimizer steps, modular entity-level sampling leaves the utility of direct neighbours "
        "higher, and steadier over steps and seeds, than cyclic and one-to-one sampling."
    ),
)
