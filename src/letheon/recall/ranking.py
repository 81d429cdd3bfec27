"""Ranking memories for a query: by meaning, by words, or by both, fused by reciprocal ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from letheon.recall.embedders import Embedder
from letheon.recall.store import Store

Search = Literal["vector", "words", "fused"]
RRF = 60  # Cormack, Clarke and Büttcher (2009)


def reciprocal_ranks(rankings: Sequence[Sequence[int]], constant: int = RRF) -> list[tuple[int, float]]:
    """Fuse rankings of ids: an id scores the sum over rankings of 1 / (constant + rank), rank from 1; best first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, start=1):
            scores[one] = scores.get(one, 0.0) + 1 / (constant + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def fused_ranks(rankings: Sequence[NDArray[np.int64]], count: int, constant: int = RRF) -> NDArray[np.float64]:
    """Return the scores of `reciprocal_ranks` for all places below a count, 0 where a place is in no ranking."""
    scores = np.zeros(count)
    for ranking in rankings:
        scores[ranking] += 1 / (constant + np.arange(1, len(ranking) + 1))
    return scores


def search(store: Store, embedder: Embedder, query: str, k: int, by: Search = "fused") -> list[tuple[int, float]]:
    """Return the ids and scores of the k best memories for a query: cosines, BM25, or fused reciprocal ranks."""
    if by == "words":
        return store.matching(query, k)
    nearest = store.nearest(embedder.embed([query])[0], max(k, 50) if by == "fused" else k)
    if by == "vector":
        return nearest
    matching = store.matching(query, max(k, 50))
    return reciprocal_ranks([[i for i, _ in nearest], [i for i, _ in matching]])[:k]
