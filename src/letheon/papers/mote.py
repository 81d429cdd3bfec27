"""Mixture of Tunable Experts: Behavior Modification of DeepSeek-R1 at Inference Time.

arXiv 2502.11096, 2025-02.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=5,
    key="mote",
    title="Mixture of Tunable Experts: Behavior Modification of DeepSeek-R1 at Inference Time",
    date="2025-02",
    arxiv="2502.11096",
    room="steer/methods/mote",
    gives="Find the experts of a mixture model that carry a behaviour, and switch them off or force them on.",
    claim=(
        "Switching off the top N experts by fTRI cuts refusals on held-out prompts more than switching "
        "off random experts or the most-used ones, with other tasks kept; forcing them on raises "
        "refusals."
    ),
)
