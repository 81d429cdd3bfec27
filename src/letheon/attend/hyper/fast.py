"""HyperAttention: attention in near-linear time, by sorting for the heavy entries and sampling for the rest.

Paper:   HyperAttention: Long-context Attention in Near-Linear Time, arXiv 2310.05869, Algorithms 1 to 4 [recalled],
         and the authors' implementation (Apache-2.0), read for its defaults.
Does:    queries and keys are sorted by angular codes; a block of sorted queries attends to the block of keys in the
         same place, and to uniformly sampled keys, each of which stands for n/m keys. Causal: leaves are exact, and the
         second half of every node of a binary tree attends to the first half in this way.
Differs: the caps and floors of Algorithm 3 are left out, as in the authors' code. Block and sample are one softmax with
         a bias per key instead of two calls that are merged: the same value, and a sample from the own block is hidden
         rather than counted twice. Leaves all have one length, instead of halves of an odd number that is padded. A
         rectangle with few queries or keys is computed exactly where that costs no more. Gradients go through the
         merging weights too. Extensions, ours and off by default: pinned keys, stratified samples, centred codes.
Note:    no query reads a later key or value. Which block of earlier keys it reads depends, here as in the paper, on its
         rank among the queries of its half, later queries included. On a GPU torch's memory-efficient kernel runs all
         tiles at once; that path was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from letheon.attend.hyper.hashing import angular_codes
from letheon.attend.hyper.kernels import attend, attend_backward
from letheon.attend.hyper.plan import Piece, pieces
from letheon.attend.hyper.settings import Sampling, Settings
from letheon.attend.hyper.tiles import Sorting, Tiles, tiles_of
from letheon.core.errors import InputError

# Tiles per gather: a few megabytes on a CPU, all tiles on a GPU.
CHUNK = {"cpu": 16}


@dataclass(frozen=True)
class Draws:
    """The random numbers of one call.

    Attributes:
        directions: [d, r] Gaussian, shared by heads, queries and keys.
        uniform: [heads, nodes, m] in [0, 1), one tensor per estimated piece. All rows of a batch share them, so that a
            row's output does not depend on the rows beside it.
    """

    directions: Tensor
    uniform: list[Tensor]


def draw(plan: Sequence[Piece], heads: int, width: int, settings: Settings, like: Tensor, generator: Any) -> Draws:
    """Draw all random numbers on the generator's device, in float32, or in float64 for float64."""
    options = {"generator": generator, "device": like.device if generator is None else generator.device}
    options["dtype"] = torch.promote_types(like.dtype, torch.float32)
    directions = torch.randn(width, settings.lsh_num_projs, **options)
    sizes = [(heads, piece.nodes, settings.sample_size) for piece in plan if piece.kind == "estimated"]
    return Draws(directions.to(like.device), [torch.rand(size, **options).to(like.device) for size in sizes])


@torch.no_grad()
def sorting_of(q: Tensor, k: Tensor, v: Tensor, directions: Tensor, settings: Settings) -> Sorting:
    """Return codes of q [heads, n_queries, d] and of k [key heads, n_keys, d], and the norms of v where needed.

    Centres are means over the first leaf, so that they do not depend on later tokens of a causal text.
    """
    first = max(settings.min_seq_len, settings.block_size)
    centres = [x[:, :first].mean(1, keepdim=True) if settings.centre else None for x in (q, k)]
    codes = [angular_codes(x, directions, centre) for x, centre in zip((q, k), centres, strict=True)]
    norms = v.to(directions.dtype).square().sum(-1) if settings.sampling == "row_norm" else None
    return Sorting(codes[0], codes[1], norms)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it loops, sorts by numpy, and has its own gradients
def hyper_attention(
    q: Float[Tensor, "batch heads n_queries d"],
    k: Float[Tensor, "batch key_heads n_keys d"],
    v: Float[Tensor, "batch key_heads n_keys d"],
    *,
    causal: bool = False,
    scale: float | None = None,
    block_size: int = 256,
    sample_size: int = 256,
    min_seq_len: int = 4096,
    lsh_num_projs: int = 7,
    sampling: Sampling = "uniform",
    pin_first: int = 0,
    pin_recent: int = 0,
    centre: bool = False,
    generator: torch.Generator | None = None,
    return_lse: bool = False,
) -> Any:
    """Approximate softmax attention in time and memory that grow with n log n (causal) or n.

    It is exact for at most `min_seq_len` queries. `Settings` documents the options; the defaults are those of the
    authors' code, and `letheon.attend.hyper.MODEL` has options that suit a language model.

    Args:
        q, k, v: float32, bfloat16 or float64; heads of queries are a multiple of those of keys. All have one width.
        causal: query i sees keys 0 to i; as many queries as keys.
        scale: factor of the scores; default 1 / sqrt(d).
        generator: source of directions and samples; default torch's own. Calls with one seed have correlated errors.
        return_lse: return also the logarithm of the softmax's denominator.

    Returns:
        [batch, heads, n_queries, d] in q's type; with `return_lse` a pair with [batch, heads, n_queries] in float32.

    Raises:
        InputError: shapes or options that do not fit.
    """
    settings = Settings(block_size, sample_size, min_seq_len, lsh_num_projs, sampling, pin_first, pin_recent, centre)
    _check(q, k, v, causal)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    flat = [x.flatten(0, 1).contiguous() for x in (q, k, v)]
    plan = pieces(q.shape[2], k.shape[2], causal, settings)
    parts: list[Piece | Tiles] = list(plan)
    if any(piece.kind == "estimated" for piece in plan):
        draws = draw(plan, q.shape[1], q.shape[-1], settings, q, generator)
        sorting = sorting_of(flat[0].detach(), flat[1].detach(), flat[2].detach(), draws.directions, settings)
        uniform = (drawn.repeat(q.shape[0], 1, 1) for drawn in draws.uniform)  # [batch * heads, nodes, m]
        parts = [
            tiles_of(piece, sorting, next(uniform), causal, settings) if piece.kind == "estimated" else piece
            for piece in plan
        ]
    out, lse = _Attention.apply(*flat, parts, scale)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return (out.view(q.shape), lse.view(q.shape[:3])) if return_lse else out.view(q.shape)


def _check(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> None:
    found = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not (q.ndim == k.ndim == 4 and k.shape == v.shape and q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3]):
        raise InputError(f"shapes do not fit: {found}", "give [batch, heads, n, d], k and v alike, one d for all")
    if q.shape[1] % k.shape[1] or 0 in (*q.shape, *k.shape):
        raise InputError(f"heads do not fit: {found}", "query heads must be a multiple of key heads, none empty")
    if causal and q.shape[2] != k.shape[2]:
        raise InputError(f"causal with {q.shape[2]} queries and {k.shape[2]} keys", "give as many queries as keys")


class _Attention(torch.autograd.Function):
    """Merge all parts by their log-sum-exp; the backward pass of a part needs only the final output and log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, parts: Sequence[Piece | Tiles], scale: float
    ) -> tuple[Tensor, Tensor]:
        exact = torch.promote_types(q.dtype, torch.float32)
        out = torch.zeros(q.shape, dtype=exact, device=q.device)
        lse = torch.full(q.shape[:2], -torch.inf, dtype=exact, device=q.device)
        for part in parts:
            if isinstance(part, Piece):
                keys, values = (part.of_keys(_for_every_head(x, len(q))) for x in (k, v))
                found = attend(part.of_queries(q), keys, values, None, part.kind == "causal", scale)
                _merge(part.of_queries(out), part.of_queries(lse), *found)
            else:
                _estimate(out.flatten(0, 1), lse.flatten(), q, k, v, part, scale)
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
            add = _add_exact if isinstance(part, Piece) else _add_estimated
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


def _for_every_head(x: Tensor, heads: int) -> Tensor:
    """[key heads, n, d] -> [heads, n, d]."""
    return x if len(x) == heads else x.repeat_interleave(heads // len(x), 0)


def _merge(out: Tensor, lse: Tensor, new: Tensor, new_lse: Tensor) -> None:
    """Merge the result of further keys into the present result, in place."""
    share = torch.sigmoid(new_lse - lse)
    out.lerp_(new.to(out.dtype), share[..., None])
    lse.copy_(torch.logaddexp(lse, new_lse))


def _gathered(x: Tensor, numbers: Tensor) -> Tensor:
    """Gather rows of x [heads, n, d] by their numbers [tiles, r] for the kernels: [1, tiles, r, d]."""
    return x.flatten(0, 1).index_select(0, numbers.flatten()).view(1, *numbers.shape, x.shape[-1])


def _estimate(out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, tiles: Tiles, scale: float) -> None:
    for chunk in tiles.chunks(CHUNK.get(q.device.type, len(tiles.queries))):
        keys, values = _gathered(k, chunk.keys), _gathered(v, chunk.keys)
        new, new_lse = attend(_gathered(q, chunk.queries), keys, values, chunk.mask[None, :, None], False, scale)
        new, new_lse, rows = new.flatten(0, 2), new_lse.flatten(), chunk.queries.flatten()
        if chunk.real is not None:
            real = chunk.real.flatten()
            new, new_lse, rows = new[real], new_lse[real], rows[real]
        before, before_lse = out.index_select(0, rows), lse.index_select(0, rows)
        _merge(before, before_lse, new, new_lse)
        out.index_copy_(0, rows, before)
        lse.index_copy_(0, rows, before_lse)


def _add_exact(sums: Sequence[Tensor], piece: Piece, whole: _Whole, scale: float) -> None:
    q, grad, out, lse = (piece.of_queries(x) for x in (whole.q, whole.grad, whole.out, whole.lse))
    k, v = (piece.of_keys(_for_every_head(x, len(whole.q))) for x in (whole.k, whole.v))
    found = attend_backward(grad, q, k, v, out, lse, None, piece.kind == "causal", scale)
    piece.of_queries(sums[0]).add_(found.queries)
    for total, part in zip(sums[1:], found[1:], strict=True):
        piece.of_keys(total).add_(part.view(len(total), -1, *part.shape[1:]).sum(1))


def _add_estimated(sums: Sequence[Tensor], tiles: Tiles, whole: _Whole, scale: float) -> None:
    for chunk in tiles.chunks(CHUNK.get(whole.q.device.type, len(tiles.queries))):
        q, grad, out = (_gathered(x, chunk.queries) for x in (whole.q, whole.grad, whole.out))
        if chunk.real is not None:
            grad = grad * chunk.real[None, ..., None]
        k, v = _gathered(whole.k, chunk.keys), _gathered(whole.v, chunk.keys)
        lse = whole.lse.flatten()[chunk.queries][None]
        found = attend_backward(grad, q, k, v, out, lse, chunk.mask[None, :, None], False, scale)
        for total, part, rows in zip(sums, found, (chunk.queries, chunk.keys, chunk.keys), strict=True):
            total.flatten(0, 1).index_add_(0, rows.flatten(), part.flatten(0, 2).to(total.dtype))
