"""HyperAttention as one weight a pair of query and key: the maths first, for reading and for tests; n x n memory.

Attention with weights w: out_i = Σ_j w_ij exp(s_ij) v_j / Σ_j w_ij exp(s_ij). Exact attention has w = 1 (or 0 for the
future). HyperAttention has w = 1 for pairs of like codes, and for the others the number of keys that a sample stands
for if j was sampled, else 0: w is 1 in the mean.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.attend.hyper.fast import draw, sorting_of
from letheon.attend.hyper.plan import Piece, pieces
from letheon.attend.hyper.settings import PAPER, Settings


def hyper_attention_naive(
    q: Float[Tensor, "batch heads n_queries d"],
    k: Float[Tensor, "batch key_heads n_keys d"],
    v: Float[Tensor, "batch key_heads n_keys d"],
    *,
    causal: bool = False,
    scale: float | None = None,
    generator: torch.Generator | None = None,
    settings: Settings = PAPER,
) -> tuple[Float[Tensor, "batch heads n_queries d"], Float[Tensor, "batch heads n_queries"]]:
    """The output and the log-sum-exp that `hyper_attention` has with the same settings and generator."""
    group = q.shape[1] // k.shape[1]
    weights = pair_weights(q, k, v, causal, settings, generator)
    scores = q @ k.repeat_interleave(group, 1).mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    lse = (scores + weights.log()).logsumexp(-1)
    return (scores + weights.log() - lse[..., None]).exp() @ v.repeat_interleave(group, 1), lse


@torch.no_grad()
def pair_weights(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, settings: Settings, generator: torch.Generator | None
) -> Float[Tensor, "batch heads n_queries n_keys"]:
    """w of every pair."""
    plan = pieces(q.shape[2], k.shape[2], causal, settings)
    heads = q.shape[0] * q.shape[1]
    group = q.shape[1] // k.shape[1]
    draws = draw(plan, heads, q.shape[-1], settings, q, generator)
    sorting = sorting_of(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), draws.directions, settings)
    uniform = iter(draws.uniform)
    weights = torch.zeros(heads, q.shape[2], k.shape[2], dtype=q.dtype)
    for piece in plan:
        drawn = next(uniform) if piece.kind == "estimated" else None
        for head in range(heads):
            codes = (sorting.query_codes[head], sorting.key_codes[head // group])
            norms = None if sorting.value_norms is None else sorting.value_norms[head // group]
            for node in range(piece.nodes):
                row, column = piece.queries + node * piece.stride, piece.keys + node * piece.stride
                part = weights[head, row : row + piece.rows, column : column + piece.columns]
                if drawn is None:
                    part.copy_(torch.ones_like(part).tril() if piece.kind == "causal" else torch.ones_like(part))
                    continue
                mine = (codes[0][row : row + piece.rows], codes[1][column : column + piece.columns])
                of_values = None if norms is None else norms[column : column + piece.columns]
                _estimate(part, *mine, of_values, drawn[head, node], _pinned(piece, column, causal, settings), settings)
    return weights.view(*q.shape[:2], q.shape[2], k.shape[2])


def _pinned(piece: Piece, column: int, causal: bool, settings: Settings) -> set[int]:
    """Keys of a rectangle that begins at a column which all its queries see."""
    first, recent = settings.pin_first, settings.pin_recent * causal
    if column > 0:
        first, recent = 0, first + recent
    return set(range(first)) | set(range(piece.columns - recent, piece.columns))


def _estimate(
    part: Tensor,
    query_codes: Tensor,
    key_codes: Tensor,
    norms: Tensor | None,
    uniform: Tensor,
    pinned: set[int],
    settings: Settings,
) -> None:
    """Fill the weights of one rectangle, block by block of the sorted keys."""
    rows, columns = part.shape
    queries = sorted(range(rows), key=lambda i: int(query_codes[i]))
    keys = sorted(range(columns), key=lambda j: int(key_codes[j]))
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


def _samples(keys: list[int], norms: Tensor | None, uniform: Tensor, settings: Settings) -> list[tuple[int, float]]:
    """Sampled keys, and how many keys each stands for."""
    n, m = len(keys), len(uniform)
    if norms is not None:
        share = norms[keys].double() / norms.double().sum()
        found = [int((share.cumsum(0) <= float(u)).sum().clamp(max=n - 1)) for u in uniform]
        return [(keys[rank], 1 / (m * float(share[rank]))) for rank in found]
    places = [(i + float(u)) / m for i, u in enumerate(uniform)] if settings.sampling == "stratified" else uniform
    return [(keys[min(n - 1, int(place * n))], n / m) for place in places]
