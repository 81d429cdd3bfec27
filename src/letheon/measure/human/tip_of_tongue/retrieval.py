"""Retrieval of content from a vague recall: two linear towers over sentence embeddings, trained by InfoNCE, and BM25.

Paper:   Bhattacharyya et al., arXiv 2511.20854: contrastive retrieval with in-batch negatives; posts about one item are
         no negatives of each other.
Differs: the paper's towers are a vision-language model; here they are linear maps on frozen embeddings, begun at the
         identity, so that training starts from plain search. Temperature and optimiser are [inferred].
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

RANKS = (1, 5, 10)


def info_nce(
    queries: Float[Tensor, "pairs width"],
    items: Float[Tensor, "pairs width"],
    content: Int[Tensor, " pairs"],
    tau: float,
) -> Float[Tensor, ""]:
    """Compute the symmetric InfoNCE loss of unit vectors; other pairs of the same content are masked out.

    L = -(1 / 2B) sum_i [log softmax_j(q_i . c_j / tau)_i + log softmax_j(q_j . c_i / tau)_i].
    """
    logits = queries @ items.T / tau
    same = content[:, None] == content[None]
    masked = logits.masked_fill(same & ~torch.eye(len(content), dtype=torch.bool), -torch.inf)
    right = torch.arange(len(content))
    return (torch.nn.functional.cross_entropy(masked, right) + torch.nn.functional.cross_entropy(masked.T, right)) / 2


@dataclass(frozen=True)
class TowerSettings:
    """Settings of the towers [inferred].

    Attributes:
        tau: temperature of the loss.
        learning_rate, epochs, batch: of AdamW.
        decay: pull of each tower towards the identity.
    """

    tau: float = 0.05
    learning_rate: float = 1e-3
    epochs: int = 20
    batch: int = 64
    decay: float = 0.01


@dataclass(frozen=True)
class Towers:
    """Two linear maps, of queries and of items."""

    query: Float[np.ndarray, "width width"]
    item: Float[np.ndarray, "width width"]

    def scores(
        self, queries: Float[np.ndarray, "queries width"], items: Float[np.ndarray, "items width"]
    ) -> Float[np.ndarray, "queries items"]:
        """Compute the cosine of every mapped query with every mapped item."""
        first, second = queries @ self.query, items @ self.item
        first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, second))
        return np.asarray(first @ second.T)


def fit_towers(
    queries: Float[np.ndarray, "pairs width"],
    items: Float[np.ndarray, "pairs width"],
    content: Sequence[int],
    settings: TowerSettings,
    seed: int,
) -> Towers:
    """Fit both towers on pairs of a query's and its item's embedding; `content` numbers the items."""
    torch.manual_seed(seed)
    first, second = (torch.tensor(part, dtype=torch.float32) for part in (queries, items))
    groups = torch.tensor(content)
    eye = torch.eye(first.shape[1])
    maps = [torch.nn.Parameter(eye.clone()) for _ in range(2)]
    optimizer = torch.optim.AdamW(maps, settings.learning_rate, weight_decay=0.0)
    order = torch.Generator().manual_seed(seed)
    for _ in range(settings.epochs):
        for part in torch.split(torch.randperm(len(groups), generator=order), settings.batch):
            if len(part) < 2:
                continue
            mapped = [
                torch.nn.functional.normalize(x[part] @ m, dim=1) for x, m in zip((first, second), maps, strict=True)
            ]
            pull = sum(((one - eye) ** 2).sum() for one in maps)
            loss = info_nce(mapped[0], mapped[1], groups[part], settings.tau) + settings.decay * pull
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            optimizer.step()
    query, item = (one.detach().numpy() for one in maps)
    return Towers(query, item)


def bm25_scores(queries: Sequence[str], texts: Sequence[str]) -> Float[np.ndarray, "queries items"]:
    """Compute the BM25 score of every text for the words of every query, by SQLite's FTS5 (k1 1.2, b .75, stemmed)."""
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE items USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    connection.executemany("INSERT INTO items (rowid, text) VALUES (?, ?)", enumerate(texts, start=1))
    scores = np.zeros((len(queries), len(texts)))
    for place, query in enumerate(queries):
        if asked := " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query)):
            rows = connection.execute("SELECT rowid, -bm25(items) FROM items WHERE items MATCH ?", (asked,))
            for row, score in rows:
                scores[place, row - 1] = score
    connection.close()
    return scores


def ranks_of(scores: Float[np.ndarray, "queries items"], right: Sequence[int]) -> Float[np.ndarray, " queries"]:
    """Return the rank of each query's item, from 1; items with an equal score share their mean rank."""
    own = scores[np.arange(len(right)), list(right)][:, None]
    return np.asarray((scores > own).sum(1) + ((scores == own).sum(1) + 1) / 2, dtype=float)


def ranked(ranks: Float[np.ndarray, " queries"]) -> Mapping[str, Float[np.ndarray, " queries"]]:
    """Return reciprocal rank, NDCG@10 and recall at 1, 5, 10 of each query."""
    gain = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
    return {"MRR": 1 / ranks, "NDCG@10": gain, **{f"recall@{k}": (ranks <= k).astype(float) for k in RANKS}}


def chance_mrr(items: int) -> float:
    """Compute the mean reciprocal rank of a random order: (1 + 1/2 + ... + 1/n) / n."""
    return float(np.mean(1 / np.arange(1, items + 1)))
