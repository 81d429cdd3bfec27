"""EgoNormia: Benchmarking Physical Social Norm Understanding.

arXiv 2502.20490, 2025-02; Rezaei et al., Findings of ACL 2025.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=50,
    key="egonormia",
    title="EgoNormia: Benchmarking Physical Social Norm Understanding",
    date="2025-02",
    arxiv="2502.20490",
    room="measure/egonormia",
    gives=("Physical social norms: the items, both questions about each (which act, and why), and the scoring."),
    claim=(
        "A perfect answerer scores 1, so that the permutation slip of the released scorer is not "
        "repeated; recorded answers of models are scored under both rules; a loader reads frames and text "
        "descriptions."
    ),
)
