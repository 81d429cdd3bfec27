"""Memorized Images in Diffusion Models share a Subspace that can be Located and Deleted.

arXiv 2406.18566, 2024-06; Chavhan et al..
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=45,
    key="memorized-images",
    title="Memorized Images in Diffusion Models share a Subspace that can be Located and Deleted",
    date="2024-06",
    arxiv="2406.18566",
    room="forget/edits/memorized_images",
    gives="A diffusion model whose memorisation subspace is pruned away.",
    claim=(
        "Images of held-out memorised prompts lose more similarity to their training image than under "
        "random masks of equal density, while the quality of ordinary classes is kept."
    ),
)
