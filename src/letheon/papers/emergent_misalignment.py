"""From Narrow Unlearning to Emergent Misalignment: Causes, Consequences, and Containment in LLMs.

arXiv 2511.14017, 2025-11; ACL 2026 short papers.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=34,
    key="emergent-misalignment",
    title="From Narrow Unlearning to Emergent Misalignment: Causes, Consequences, and Containment in LLMs",
    date="2025-11",
    arxiv="2511.14017",
    room="audit/spillover",
    gives="A check whether unlearning one refusal broke others.",
    claim=(
        "After one domain's refusal is unlearned, refusals in entangled domains fall in the order of "
        "their similarity to it; a little retain data from those domains restores them."
    ),
)
