"""Far attention: exact causal attention to the first keys, to the nearest keys, and to the far chunks that matter.

Ours; what it owes: the score of a chunk by its mean key is MoBA's (arXiv 2502.13189), by the smallest and largest value
of each channel Quest's (arXiv 2406.10774); that whole blocks of queries share a choice, SeerAttention's (arXiv
2410.13276), which learns it.
Does:    the first `exact_up_to` tokens attend to everything before them. Every later query attends to its own stretch
         of `window` tokens so far, to the stretch before, to the first `pin_first` keys, and to the `chosen` chunks of
         its block of queries. Nothing is estimated in the output: it is softmax attention over these keys.
Differs: from MoBA and Quest: a block takes the chunks that any one of its queries needs, by its shares of far mass.
Note:    the choice depends on earlier keys and on the queries of the block, later ones included: a query's output can
         depend on later tokens of its own block, and on nothing beyond.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.attend.far.choosing import chosen_chunks, tiles_of
from letheon.attend.far.settings import FAR, Choose, Settings
from letheon.attend.hyper.fast import cast_as_sdpa, check_shapes
from letheon.attend.hyper.parts import Part, attend_parts
from letheon.attend.hyper.plan import Piece


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it loops and has its own gradients
@cast_as_sdpa
def far_attention(
    q: Float[Tensor, "batch heads n d"],
    k: Float[Tensor, "batch key_heads n d"],
    v: Float[Tensor, "batch key_heads n d"],
    *,
    scale: float | None = None,
    window: int = FAR.window,
    block: int = FAR.block,
    chunk: int = FAR.chunk,
    chosen: int = FAR.chosen,
    pin_first: int = FAR.pin_first,
    choose: Choose = FAR.choose,
    return_lse: bool = False,
) -> Any:
    """Causal softmax attention to near keys and to chosen chunks of far keys; `Settings` documents the options.

    Time grows with n for what is attended to, and with n² / (2 chunk) products of a query and a chunk for the choice.

    Args:
        q, k, v: float32, bfloat16 or float64; heads of queries are a multiple of those of keys. All have one width.
            Under autocast they take its type.
        scale: factor of the scores; default 1 / sqrt(d).
        return_lse: return also the logarithm of the softmax's denominator.

    Returns:
        [batch, heads, n, d] in q's type; with `return_lse` a pair with [batch, heads, n] in float32.

    Raises:
        InputError: shapes or options that do not fit.
    """
    settings = Settings(window, block, chunk, chosen, pin_first, choose)
    check_shapes(q, k, v, True)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    n = q.shape[2]
    flat = (q.flatten(0, 1).contiguous(), k.flatten(0, 1).contiguous(), v.flatten(0, 1).contiguous())
    parts: list[Part] = [*near_pieces(n, settings)]
    if n > settings.exact_up_to and chosen:
        chunks = chosen_chunks(flat[0], flat[1], settings, scale)
        parts.append(tiles_of(chunks, n, len(flat[1]), settings))
    out, lse = attend_parts(*flat, parts, scale)
    return (out.view(q.shape), lse.view(q.shape[:3])) if return_lse else out.view(q.shape)


def near_pieces(n: int, settings: Settings) -> list[Piece]:
    """Return the exact rectangles: the first tokens, each later stretch with the one before, and the pinned keys."""
    first, window = settings.exact_up_to, settings.window
    if n <= first:
        return [Piece(0, 0, n, n, 1, 0, "causal")]
    found = [Piece(0, 0, first, first, 1, 0, "causal")]
    stretches, rest = divmod(n - first, window)
    for start, rows, nodes in ((first, window, stretches), (n - rest, rest, 1)):
        if rows and nodes:
            found.append(Piece(start, start, rows, rows, nodes, window, "causal"))
            found.append(Piece(start, start - window, rows, window, nodes, window, "exact"))
    if settings.pin_first:
        found.append(Piece(first, 0, n - first, settings.pin_first, 1, 0, "exact"))
    return found


def far_pairs(n: int, settings: Settings) -> int:
    """Return the products of query and key per head; exact attention has n (n + 1) / 2."""
    near = sum(
        piece.nodes * piece.rows * (piece.rows + 1) // 2
        if piece.kind == "causal"
        else piece.nodes * piece.rows * piece.columns
        for piece in near_pieces(n, settings)
    )
    return near + max(0, n - settings.exact_up_to) * settings.chosen * settings.chunk
