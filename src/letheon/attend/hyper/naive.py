"""HyperAttention as one weight per pair of query and key: the definition, for reading and for tests; n x n memory.

Attention with weights w: out_i = Σ_j w_ij exp(s_ij) v_j / Σ_j w_ij exp(s_ij). Exact attention has w = 1 (or 0 for the
future). HyperAttention has w = 1 for pairs in the same block of the sorted order. For the other pairs, w is the number
of keys that a sample stands for where j was sampled, else 0. The mean of w over samples is 1.

This file shares nothing with the fast path but its settings: hashing, sorting, sampling and the causal recursion are
written a second time, row by row. Only the random numbers are given, so that both can be compared to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.attend.hyper.settings import PAPER, Settings


class Randomness(NamedTuple):
    """The random numbers of one call.

    Attributes:
        directions: [d, r] Gaussian directions of the hash.
        uniform: [heads, m] numbers in [0, 1) per estimated rectangle, by the rectangle's first query.
    """

    directions: Tensor
    uniform: Mapping[int, Tensor]


class Rectangle(NamedTuple):
    """Queries `row` to `row + rows - 1` against keys `column` to `column + columns - 1`."""

    row: int
    column: int
    rows: int
    columns: int


def hyper_attention_naive(
    q: Float[Tensor, "batch heads n_queries d"],
    k: Float[Tensor, "batch key_heads n_keys d"],
    v: Float[Tensor, "batch key_heads n_keys d"],
    randomness: Randomness,
    *,
    causal: bool = False,
    scale: float | None = None,
    settings: Settings = PAPER,
) -> tuple[Float[Tensor, "batch heads n_queries d"], Float[Tensor, "batch heads n_queries"]]:
    """The output and log-sum-exp of `hyper_attention` with the same settings and random numbers."""
    group = q.shape[1] // k.shape[1]
    weights = pair_weights(q, k, v, randomness, causal, settings)
    scores = q @ k.repeat_interleave(group, 1).mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    lse = (scores + weights.log()).logsumexp(-1)
    return (scores + weights.log() - lse[..., None]).exp() @ v.repeat_interleave(group, 1), lse


@torch.no_grad()
def pair_weights(
    q: Float[Tensor, "batch heads n_queries d"],
    k: Float[Tensor, "batch key_heads n_keys d"],
    v: Float[Tensor, "batch key_heads n_keys d"],
    randomness: Randomness,
    causal: bool,
    settings: Settings,
) -> Float[Tensor, "batch heads n_queries n_keys"]:
    """w of every pair."""
    batch, heads, n, _ = q.shape
    weights = torch.zeros(batch, heads, n, k.shape[2], dtype=q.dtype)
    group = heads // k.shape[1]
    for b in range(batch):
        for h in range(heads):
            query_codes = _codes(q[b, h], randomness.directions, settings)
            key_codes = _codes(k[b, h // group], randomness.directions, settings)
            norms = v[b, h // group].square().sum(1).tolist()
            if causal:
                weights[b, h] = _exact_triangles(n, settings)
            for place in _rectangles(n, k.shape[2], causal, settings):
                row, column, rows, columns = place
                part = weights[b, h, row : row + rows, column : column + columns]
                if _is_exact(place, causal, settings):
                    part.fill_(1.0)
                    continue
                codes = query_codes[row : row + rows], key_codes[column : column + columns]
                drawn = randomness.uniform[row][h].tolist()
                pinned = _pinned(place, causal, settings)
                _estimate(part, *codes, norms[column : column + columns], drawn, pinned, settings)
    return weights


# Which parts are exact


def _leaf(settings: Settings) -> int:
    """Tokens of a leaf of the causal recursion: whole blocks, at least one."""
    return max(settings.block_size, settings.min_seq_len - settings.min_seq_len % settings.block_size)


def _exact_triangles(n: int, settings: Settings) -> Tensor:
    """[n, n]: 1 where query i and key j <= i lie in one leaf."""
    leaf = n if n <= settings.min_seq_len else _leaf(settings)
    number = torch.arange(n) // leaf
    return (number[:, None] == number).double().tril()


def _rectangles(n_queries: int, n_keys: int, causal: bool, settings: Settings) -> list[Rectangle]:
    """The rest: causal, each second half of a node of the binary tree against its first half; else everything."""
    if not causal:
        return [Rectangle(0, 0, n_queries, n_keys)]
    found, half = [], _leaf(settings)
    while half < n_queries and n_queries > settings.min_seq_len:
        for start in range(0, n_queries - half, 2 * half):
            found.append(Rectangle(start + half, start, min(half, n_queries - start - half), half))
        half *= 2
    return found


def _is_exact(place: Rectangle, causal: bool, settings: Settings) -> bool:
    """A rectangle is exact where an estimate would compute as many pairs, and below `min_seq_len` queries."""
    seen = settings.block_size + settings.sample_size
    few = place.rows <= seen or place.columns <= seen + settings.pin_first + settings.pin_recent
    return few or (not causal and place.rows <= settings.min_seq_len)


# The estimate


def _codes(x: Float[Tensor, "n d"], directions: Float[Tensor, "d r"], settings: Settings) -> list[int]:
    """Per row the place of its signs in the Gray sequence 0, 1, 3, 2, 6, ..., whose i-th member is i ^ (i >> 1)."""
    place = {i ^ (i >> 1): i for i in range(2 ** directions.shape[1])}
    first = x[: max(settings.min_seq_len, settings.block_size)]
    signs = ((x - first.mean(0) if settings.centre else x) @ directions.to(x.dtype) > 0).tolist()
    return [place[sum(sign << bit for bit, sign in enumerate(row))] for row in signs]


def _pinned(place: Rectangle, causal: bool, settings: Settings) -> set[int]:
    """The rectangle's keys that all its queries see; without the text's beginning, more of the nearest keys."""
    first, recent = settings.pin_first, settings.pin_recent * causal
    if place.column > 0:
        first, recent = 0, first + recent
    return set(range(first)) | set(range(place.columns - recent, place.columns))


def _estimate(
    part: Tensor,
    query_codes: list[int],
    key_codes: list[int],
    norms: list[float],
    uniform: list[float],
    pinned: set[int],
    settings: Settings,
) -> None:
    """Fill the weights of one rectangle, block by block of the sorted keys."""
    rows, columns = part.shape
    queries = sorted(range(rows), key=query_codes.__getitem__)
    keys = sorted(range(columns), key=key_codes.__getitem__)
    blocks = math.ceil(columns / settings.block_size)
    per_block = math.ceil(rows / blocks)
    samples = _samples(keys, norms, uniform, settings)
    for block in range(blocks):
        own = keys[block * settings.block_size : (block + 1) * settings.block_size]
        for i in queries[block * per_block : (block + 1) * per_block]:
            part[i, own] = 1.0
            part[i, list(pinned)] = 1.0
            for j, stands_for in samples:
                if j not in pinned and j not in own:
                    part[i, j] += stands_for


def _samples(keys: list[int], norms: list[float], uniform: list[float], settings: Settings) -> list[tuple[int, float]]:
    """Sampled keys, and how many keys each stands for."""
    n, m = len(keys), len(uniform)
    if settings.sampling == "row_norm":
        total, ends = sum(norms), list(accumulate(norms[key] for key in keys))
        chosen = [keys[min(n - 1, sum(end <= u * ends[-1] for end in ends))] for u in uniform]
        return [(key, total / (m * norms[key])) for key in chosen]
    places = [(i + u) / m for i, u in enumerate(uniform)] if settings.sampling == "stratified" else uniform
    return [(keys[min(n - 1, int(place * n))], n / m) for place in places]
