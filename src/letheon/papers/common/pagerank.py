"""Personalised PageRank on users and items: scores items by how often walks that restart at a user reach them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from scipy.sparse import csr_matrix


def personalised_pagerank(
    taken: Mapping[int, Collection[int]], user: int, *, restart: float = 0.15, tolerance: float = 1e-8
) -> dict[int, float]:
    """The score of every item for a user: p = (1 − c) W p + c e_u by power iteration, W column-normalised.

    Args:
        taken: the items of each user.
        restart: c, the probability to restart at the user.
        tolerance: iteration ends when the scores move by less than this in sum.
    """
    users, items = sorted(taken), sorted({item for chosen in taken.values() for item in chosen})
    place = {item: len(users) + i for i, item in enumerate(items)}
    edges = [(i, place[item]) for i, one in enumerate(users) for item in taken[one]]
    size = len(users) + len(items)
    rows = [a for a, _ in edges] + [b for _, b in edges]
    columns = [b for _, b in edges] + [a for a, _ in edges]
    walk = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    degree = np.asarray(walk.sum(0)).ravel()
    walk = walk.multiply(1 / np.maximum(degree, 1)).tocsr()
    start = np.zeros(size)
    start[users.index(user)] = 1.0
    scores, moved = start, 1.0
    while moved > tolerance:
        new = (1 - restart) * (walk @ scores) + restart * start
        scores, moved = new, float(np.abs(new - scores).sum())
    return {item: float(scores[place[item]]) for item in items}
