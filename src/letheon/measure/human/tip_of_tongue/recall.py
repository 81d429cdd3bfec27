"""Recall generation: a model writes what a person would remember of an item, judged against what people wrote.

Paper:   Bhattacharyya et al., arXiv 2511.20854, task 1. Prompt and metrics are [inferred].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from letheon.core.scoring.overlap import rouge
from letheon.measure.asking.templates import Template
from letheon.measure.human.scenes import Content
from letheon.measure.human.tip_of_tongue.data import item_text

PROMPT = Template("recall", "1", "{item}\nWhat would a person remember from this video?")
# Words of the templates and of talking about memory, which are no facts.
IDLE = frozenset(
    re.findall(
        r"\w+",
        """audio background categorized colors dominant emotions film foreground from have maybe movie remember says
        scene scenes shown shows some tags text that there think this video were what when where which with would""",
    )
)


@dataclass(frozen=True)
class Fidelity:
    """How a written recall compares with people's.

    Attributes:
        rouge_l: F1 of the longest common subsequence, the best over all posts.
        coverage: share of the posts' content words that are in the item and in the recall.
        invented: share of the recall's content words that the item does not have; 0 for an empty recall.
        distinct: share of its word pairs that are different.
    """

    rouge_l: float
    coverage: float
    invented: float
    distinct: float


def facts(text: str) -> frozenset[str]:
    """Return the content words of a text: four letters or more, in lower case, without those of the templates."""
    return frozenset(word for word in re.findall(r"[a-z]{4,}", text.lower()) if word not in IDLE)


def remembered_facts(posts: Sequence[str], item: Content) -> frozenset[str]:
    """Return the content words of posts that their item has."""
    return frozenset[str]().union(*(facts(post) for post in posts)) & facts(item_text(item))


def fidelity(written: str, posts: Sequence[str], item: Content) -> Fidelity:
    """Compare a written recall with the posts about its item."""
    known, own = facts(item_text(item)), facts(written)
    remembered = remembered_facts(posts, item)
    words = written.lower().split()
    pairs = list(pairwise(words))
    return Fidelity(
        rouge_l=max(rouge(written, post).rougeL_f1 for post in posts),
        coverage=len(remembered & own) / len(remembered) if remembered else 0.0,
        invented=len(own - known) / len(own) if own else 0.0,
        distinct=len(set(pairs)) / len(pairs) if pairs else 0.0,
    )


def recall_prompt(item: Content) -> str:
    """Return the question after an item."""
    return PROMPT.fill(item=item_text(item))


def summary(item: Content, words: int = 60) -> str:
    """Return the beginning of the item's own text: the baseline that remembers nothing in particular."""
    return " ".join(item_text(item).split()[:words])
