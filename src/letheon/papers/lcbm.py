"""Large Content And Behavior Models To Understand, Simulate, And Optimize Content And Behavior.

arXiv 2309.00359, 2023-09; Khandelwal et al., ICLR 2024.
"""

from letheon.papers.catalogue import Paper

PAPER = Paper(
    number=46,
    key="lcbm",
    title="Large Content And Behavior Models To Understand, Simulate, And Optimize Content And Behavior",
    date="2023-09",
    arxiv="2309.00359",
    room="measure/human/behaviour",
    gives="Content and the behaviour of its audience, each simulated from the other.",
    claim=(
        "Where the law of behaviour is known, the fine-tuned model beats zero-shot prompting and "
        "interpolation; training in both directions at once keeps the perplexity of plain text."
    ),
)
