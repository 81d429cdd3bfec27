"""Texts that begin alike as a tree, in which every distinct token is run once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool

# Number of pairs of tokens whose attention costs about as much as one token's pass through a small model's weights.
PAIRS_PER_TOKEN = 512

Question = tuple[Sequence[int], Sequence[Sequence[int]]]  # a prompt and its answers, as token ids


class Tree:
    """Texts as one sequence of distinct nodes.

    ids[i] is the token of node i, parent[i] the node before it (-1 for the first), depth[i] its position;
    paths[t] lists the nodes of text t. A node comes after its parent.
    """

    def __init__(self, texts: Iterable[Sequence[int]]) -> None:
        self.ids: list[int] = []
        self.parent: list[int] = []
        self.depth: list[int] = []
        children: dict[tuple[int, int], int] = {}
        self.paths = [self._add(text, children) for text in texts]

    def _add(self, text: Sequence[int], children: dict[tuple[int, int], int]) -> list[int]:
        node, path = -1, []
        for depth, token in enumerate(text):
            child = children.get((node, token))
            if child is None:
                child = children[node, token] = len(self.ids)
                self.ids.append(token)
                self.parent.append(node)
                self.depth.append(depth)
            path.append(child)
            node = child
        return path

    def visible(self, prefix: int) -> Bool[np.ndarray, "rest nodes"]:
        """Mask of the nodes that each node after the prefix attends to: itself and its ancestors."""
        seen = np.zeros((len(self.ids), len(self.ids)), dtype=bool)
        for node, parent in enumerate(self.parent):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, node] = True
        return seen[prefix:]


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the leading tokens that two texts share."""
    shortest = min(len(first), len(second))
    return next((i for i in range(shortest) if first[i] != second[i]), shortest)


def in_trees(questions: Sequence[Question], prefix: int, most: int) -> list[list[int]]:
    """Group question numbers into trees of at most `most` tokens; a question alone may have more.

    Questions stand in one tree where the tokens that they share save more than attention across them costs.

    Args:
        prefix: number of leading tokens that all prompts share, which are run apart and not counted.
    """
    groups: list[list[int]] = []
    size, before = 0, tuple[int, ...]()
    for i in sorted(range(len(questions)), key=lambda i: (tuple(questions[i][0]), i)):
        prompt, answers = questions[i]
        own = sum(max(len(answer) - 1, 0) for answer in answers)
        shared = shared_length(before, prompt)
        new = len(prompt) - shared + own
        if size + new > most or (shared - prefix) * PAIRS_PER_TOKEN < size * new or not groups:
            groups.append([])
            size, new = 0, len(prompt) - prefix + own
        groups[-1].append(i)
        size, before = size + new, tuple(prompt)
    return groups
