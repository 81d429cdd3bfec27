"""Exact and estimated parts of the attention matrix: the causal recursion, unrolled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from letheon.attend.hyper.settings import Settings


@dataclass(frozen=True)
class Piece:
    """Rectangles of one size in the attention matrix, one every `stride` rows and columns.

    Attributes:
        queries, keys: first row and first column of the first rectangle.
        rows, columns: size of a rectangle.
        nodes: number of rectangles.
        stride: rows, and columns, from one rectangle to the next.
        kind: `causal` (the lower triangle of each, exact), `exact`, or `estimated`.
    """

    queries: int
    keys: int
    rows: int
    columns: int
    nodes: int
    stride: int
    kind: Literal["causal", "exact", "estimated"]

    def of_queries(self, x: Tensor) -> Tensor:
        """[heads, n, ...] -> a view [heads, nodes, rows, ...] of each rectangle's queries."""
        return self._windows(x, self.queries, self.rows)

    def of_keys(self, x: Tensor) -> Tensor:
        """[heads, n, ...] -> a view [heads, nodes, columns, ...] of each rectangle's keys."""
        return self._windows(x, self.keys, self.columns)

    def _windows(self, x: Tensor, start: int, length: int) -> Tensor:
        heads, along, *rest = x.stride()
        size = (x.shape[0], self.nodes, length, *x.shape[2:])
        return x.as_strided(size, (heads, self.stride * along, along, *rest), x.storage_offset() + start * along)


def pieces(n_queries: int, n_keys: int, causal: bool, settings: Settings) -> list[Piece]:
    """Return pieces that cover the matrix, or its lower triangle, once.

    Causal: leaves of `min_seq_len` (in whole blocks) are exact triangles; at each level above, the second half of a
    node attends to the first half. The halves of one level are one piece; a last node that is not whole is a piece
    of its own.
    """
    if not causal:
        exact = n_queries <= settings.min_seq_len
        return [Piece(0, 0, n_queries, n_keys, 1, 0, "exact" if exact else _kind(n_queries, n_keys, settings))]
    if n_queries <= settings.min_seq_len:
        return [Piece(0, 0, n_queries, n_queries, 1, 0, "causal")]
    block = settings.block_size
    half = max(block, settings.min_seq_len // block * block)
    leaves, rest = divmod(n_queries, half)
    found = [Piece(0, 0, half, half, leaves, half, "causal")] if leaves else []
    if rest:
        found.append(Piece(leaves * half, leaves * half, rest, rest, 1, 0, "causal"))
    while half < n_queries:
        nodes, rest = divmod(n_queries, 2 * half)
        if nodes:
            found.append(Piece(half, 0, half, half, nodes, 2 * half, _kind(half, half, settings)))
        if rest > half:
            start = nodes * 2 * half
            found.append(Piece(start + half, start, rest - half, half, 1, 0, _kind(rest - half, half, settings)))
        half *= 2
    return found


def _kind(rows: int, columns: int, settings: Settings) -> Literal["exact", "estimated"]:
    """Return "exact" where that computes no more pairs than an estimate does."""
    seen = settings.block_size + settings.sample_size
    few = columns <= seen + settings.pin_first + settings.pin_recent or rows <= seen
    return "exact" if few else "estimated"


def computed_pairs(n: int, causal: bool, settings: Settings) -> int:
    """Return the products of query and key per head; exact attention has n² or, causal, n (n + 1) / 2."""
    seen = settings.block_size + settings.sample_size + settings.pin_first + (settings.pin_recent if causal else 0)
    pairs = 0
    for piece in pieces(n, n, causal, settings):
        columns = {"causal": (piece.columns + 1) / 2, "exact": piece.columns, "estimated": seen}[piece.kind]
        pairs += int(piece.nodes * piece.rows * columns)
    return pairs
