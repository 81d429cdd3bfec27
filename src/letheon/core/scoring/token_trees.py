"""Texts that begin alike as a tree, in which every distinct token is run once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

# Number of pairs of tokens whose attention costs about as much as one token's pass through a small model's weights.
PAIRS_PER_TOKEN = 512
# A pass over this many tokens keeps a processor's cores busy; larger passes gain little.
BUSY = 512

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


def packed(trees: Sequence[Tree], pad_id: int, device: torch.device, prefix: int = 0) -> dict[str, Any]:
    """Return the arguments of one pass over some trees, each a row of nodes that see their ancestors only.

    Args:
        pad_id: token behind the nodes of the shorter trees.
        prefix: number of leading nodes whose keys and values are in a cache already.
    """
    longest = max(len(tree.ids) for tree in trees)
    ids = torch.full((len(trees), longest - prefix), pad_id, dtype=torch.long)
    positions = torch.zeros_like(ids)
    visible = torch.zeros((len(trees), 1, longest - prefix, longest), dtype=torch.bool)
    for row, tree in enumerate(trees):
        n = len(tree.ids) - prefix
        ids[row, :n] = torch.tensor(tree.ids[prefix:])
        positions[row, :n] = torch.tensor(tree.depth[prefix:])
        visible[row, 0, :n, : n + prefix] = torch.from_numpy(tree.visible(prefix))
        visible[row, 0, n:, 0] = True  # padding must see something; nobody sees padding
    mask = torch.zeros(visible.shape, device=device).masked_fill(~visible.to(device), torch.finfo(torch.float32).min)
    return {"input_ids": ids.to(device), "attention_mask": mask, "position_ids": positions.to(device)}


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


def of_like_length(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group row numbers into batches, longest rows first; no batch exceeds `most` tokens with padding.

    A batch that already keeps the processor busy takes no row that would need more than a fifth of padding.
    """
    batches: list[list[int]] = []
    longest = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = len(batches[-1]) if batches else 0
        busy = size * longest >= BUSY and lengths[i] < 0.8 * longest
        if not size or busy or (size + 1) * longest > most:
            batches.append([])
            longest = lengths[i]
        batches[-1].append(i)
    return batches
