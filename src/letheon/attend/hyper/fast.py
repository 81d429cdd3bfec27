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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.attend.hyper.hashing import angular_codes
from letheon.attend.hyper.parts import Part, attend_parts
from letheon.attend.hyper.plan import Piece, pieces
from letheon.attend.hyper.settings import Sampling, Settings
from letheon.attend.hyper.tiles import Sorting, tiles_of
from letheon.core.errors import InputError


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


def cast_as_sdpa(attend: Callable[..., Any]) -> Callable[..., Any]:
    """Let an attention meet autocast as SDPA does: its inputs take autocast's type, and nothing within is cast again.

    A rotary embedding leaves queries and keys in float32 beside values in bfloat16.
    """

    @wraps(attend)
    def cast(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
        kind = q.device.type
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return attend(q, k, v, **options)
        wanted = torch.get_autocast_dtype(kind)
        q, k, v = (x if x.dtype == torch.float64 else x.to(wanted) for x in (q, k, v))
        with torch.autocast(kind, enabled=False):
            return attend(q, k, v, **options)

    return cast


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it loops, sorts by numpy, and has its own gradients
@cast_as_sdpa
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
            Under autocast they take its type.
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
    check_shapes(q, k, v, causal)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    flat = (q.flatten(0, 1).contiguous(), k.flatten(0, 1).contiguous(), v.flatten(0, 1).contiguous())
    plan = pieces(q.shape[2], k.shape[2], causal, settings)
    parts: list[Part] = list(plan)
    if any(piece.kind == "estimated" for piece in plan):
        draws = draw(plan, q.shape[1], q.shape[-1], settings, q, generator)
        sorting = sorting_of(flat[0].detach(), flat[1].detach(), flat[2].detach(), draws.directions, settings)
        uniform = (drawn.repeat(q.shape[0], 1, 1) for drawn in draws.uniform)  # [batch * heads, nodes, m]
        parts = [
            tiles_of(piece, sorting, next(uniform), causal, settings) if piece.kind == "estimated" else piece
            for piece in plan
        ]
    out, lse = attend_parts(*flat, parts, scale)
    return (out.view(q.shape), lse.view(q.shape[:3])) if return_lse else out.view(q.shape)


def check_shapes(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> None:
    """Refuse shapes and types that do not fit together (`InputError`)."""
    found = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not (q.ndim == k.ndim == 4 and k.shape == v.shape and q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3]):
        raise InputError(f"shapes do not fit: {found}", "give [batch, heads, n, d], k and v alike, one d for all")
    if q.shape[1] % k.shape[1] or 0 in (*q.shape, *k.shape):
        raise InputError(f"heads do not fit: {found}", "query heads must be a multiple of key heads, none empty")
    if not q.dtype == k.dtype == v.dtype:
        raise InputError(f"types do not fit: {q.dtype}, {k.dtype}, {v.dtype}", "give q, k and v in one type")
    if causal and q.shape[2] != k.shape[2]:
        raise InputError(f"causal with {q.shape[2]} queries and {k.shape[2]} keys", "give as many queries as keys")
