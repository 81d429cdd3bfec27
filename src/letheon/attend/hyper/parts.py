"""Attention as parts: exact rectangles and tiles, merged by their log-sum-exp, with exact gradients.

A query's row of the attention matrix may be spread over any number of parts that share no pair. The backward pass of a
part needs only the final output and log-sum-exp of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from letheon.attend.hyper.kernels import attend, attend_backward
from letheon.attend.hyper.plan import Piece
from letheon.attend.hyper.tiles import Tiles

# Keys per gather and thread on a CPU: 1.3 megabytes each of keys and values of width 64, for the core's cache.
GATHERED = 5120

Part = Piece | Tiles


def attend_parts(
    q: Float[Tensor, "heads n_queries d"],
    k: Float[Tensor, "key_heads n_keys d"],
    v: Float[Tensor, "key_heads n_keys d"],
    parts: Sequence[Part],
    scale: float,
) -> tuple[Float[Tensor, "heads n_queries d"], Float[Tensor, "heads n_queries"]]:
    """Return softmax attention over the pairs of all parts, and the log of its denominator (float32, or float64).

    Each key head serves the same number of consecutive heads.
    """
    return _Attention.apply(q, k, v, parts, scale)  # type: ignore[no-untyped-call]  # torch leaves it untyped


class _Attention(torch.autograd.Function):
    """Merge all parts by their log-sum-exp; the backward pass of a part needs only the final output and log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: Sequence[Part], scale: float
    ) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(q.dtype, torch.float32)
        out = torch.zeros(q.shape, dtype=exact, device=q.device)
        lse = torch.full(q.shape[:2], -torch.inf, dtype=exact, device=q.device)
        for part in parts:
            if isinstance(part, Piece):
                _attend_piece(out, lse, q, k, v, part, scale)
            else:
                _attend_tiles(out.flatten(0, 1), lse.flatten(), q, k, v, part, scale)
        result = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, result, lse)
        ctx.parts, ctx.scale = parts, scale
        ctx.set_materialize_grads(False)
        return result, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        width = q.shape[-1]
        grad = torch.zeros_like(out) if grad is None else grad.contiguous()
        if grad_lse is not None:
            # d lse / d score is the weight, as if v had one more column, of ones, and lse were the output there
            q, k, v, out, grad = (torch.nn.functional.pad(x, (0, 8)) for x in (q, k, v, out, grad))
            v[..., width], grad[..., width] = 1.0, grad_lse
        whole = _Whole(q, k, v, out, lse, grad)
        sums = [torch.zeros(x.shape, dtype=lse.dtype, device=x.device) for x in (q, k, v)]
        for part in ctx.parts:
            add = _add_piece if isinstance(part, Piece) else _add_tiles
            add(sums, part, whole, ctx.scale)
        return *(total[..., :width].to(q.dtype) for total in sums), None, None


class _Whole(NamedTuple):
    """The tensors of the whole call for the backward pass: inputs, final result and its gradient."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor
    grad: Tensor


class _Grouped:
    """A piece as the kernels take it, where several heads of queries share one of keys.

    Where no mask counts rows, the queries of all heads of a group attend to the group's keys as if they were queries of
    one head (`fold`); otherwise the piece's keys are repeated for every head.
    """

    def __init__(self, piece: Piece, heads: int, key_heads: int, fold: bool) -> None:
        self.piece, self.causal = piece, piece.kind == "causal"
        self.batch = key_heads if fold and not self.causal else heads
        self.group = heads // self.batch

    def of_queries(self, x: Tensor) -> Tensor:
        """[heads, n, ...] -> a view [batch, nodes, group, rows, ...]."""
        windows = self.piece.of_queries(x)
        return windows.view(self.batch, self.group, *windows.shape[1:]).transpose(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """[heads, n, ...] -> [batch, nodes, group * rows, ...]."""
        return self.of_queries(x).flatten(2, 3)

    def keys(self, x: Tensor) -> Tensor:
        """[key heads, n, d] -> [batch, nodes, columns, d]."""
        keys = self.piece.of_keys(x)
        return keys if len(x) == self.batch else keys.repeat_interleave(self.batch // len(x), 0)

    def apart(self, x: Tensor) -> Tensor:
        """[batch, nodes, group * rows, ...] -> a view as `of_queries`."""
        return x.view(*x.shape[:2], self.group, self.piece.rows, *x.shape[3:])


def _merge(out: Tensor, lse: Tensor, new: Tensor, new_lse: Tensor) -> None:
    """Merge the result of further keys into the present result, in place."""
    share = torch.sigmoid(new_lse - lse)
    out.lerp_(new.to(out.dtype), share[..., None])
    lse.copy_(torch.logaddexp(lse, new_lse))


def _gathered(x: Tensor, numbers: Tensor) -> Tensor:
    """Gather rows of x [heads, n, d] by their numbers [tiles, r] for the kernels: [1, tiles, r, d]."""
    return x.flatten(0, 1).index_select(0, numbers.flatten()).view(1, *numbers.shape, x.shape[-1])


def _tiles_at_once(tiles: Tiles) -> int:
    """Return how many tiles are gathered together; a GPU takes all."""
    count, keys = tiles.keys.shape
    return max(1, GATHERED * torch.get_num_threads() // keys) if tiles.keys.device.type == "cpu" else count


def _attend_piece(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, piece: Piece, scale: float) -> None:
    heads = _Grouped(piece, len(q), len(k), fold=True)
    found = attend(heads.queries(q), heads.keys(k), heads.keys(v), None, heads.causal, scale)
    _merge(heads.of_queries(out), heads.of_queries(lse), *map(heads.apart, found))


def _attend_tiles(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, tiles: Tiles, scale: float) -> None:
    for chunk in tiles.chunks(_tiles_at_once(tiles)):
        keys, values = _gathered(k, chunk.keys), _gathered(v, chunk.keys)
        new, new_lse = attend(_gathered(q, chunk.queries), keys, values, chunk.bias(), False, scale)
        new, new_lse, rows = new.flatten(0, 2), new_lse.flatten(), chunk.queries.flatten()
        if chunk.real is not None:
            real = chunk.real.flatten()
            new, new_lse, rows = new[real], new_lse[real], rows[real]
        before, before_lse = out.index_select(0, rows), lse.index_select(0, rows)
        _merge(before, before_lse, new, new_lse)
        out.index_copy_(0, rows, before)
        lse.index_copy_(0, rows, before_lse)


def _add_piece(sums: Sequence[Tensor], piece: Piece, whole: _Whole, scale: float) -> None:
    # the CPU's backward kernel shares out heads and rectangles over threads, and no queries
    heads = _Grouped(piece, len(whole.q), len(whole.k), fold=piece.nodes > 1)
    q, grad, out, lse = (heads.queries(x) for x in (whole.q, whole.grad, whole.out, whole.lse))
    found = attend_backward(grad, q, heads.keys(whole.k), heads.keys(whole.v), out, lse, None, heads.causal, scale)
    heads.of_queries(sums[0]).add_(heads.apart(found.queries))
    for total, part in zip(sums[1:], found[1:], strict=True):
        piece.of_keys(total).add_(part.view(len(total), -1, *part.shape[1:]).sum(1))


def _add_tiles(sums: Sequence[Tensor], tiles: Tiles, whole: _Whole, scale: float) -> None:
    for chunk in tiles.chunks(_tiles_at_once(tiles)):
        q, grad, out = (_gathered(x, chunk.queries) for x in (whole.q, whole.grad, whole.out))
        if chunk.real is not None:
            grad = grad * chunk.real[None, ..., None]
        k, v = _gathered(whole.k, chunk.keys), _gathered(whole.v, chunk.keys)
        lse = whole.lse.flatten()[chunk.queries][None]
        found = attend_backward(grad, q, k, v, out, lse, chunk.bias(), False, scale)
        for total, part, rows in zip(sums, found, (chunk.queries, chunk.keys, chunk.keys), strict=True):
            total.flatten(0, 1).index_add_(0, rows.flatten(), part.flatten(0, 2).to(total.dtype))
