"""Which chunks of far keys a block of queries attends to.

A chunk's attention mass for a query is Σ exp(s_j) over its keys. It is estimated from a few numbers per chunk; a
softmax over all far chunks gives each chunk's share of the query's far mass. A block takes the chunks with the largest
share for any of its queries: a query that needs a chunk gets it even if no other query of the block does, and a query
that needs none in particular, whose shares are small, takes no place from it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.attend.far.settings import Choose, Settings
from letheon.attend.hyper.tiles import Tiles

Keys = Float[Tensor, "key_heads n d"]


def chunk_features(k: Keys, settings: Settings) -> Float[Tensor, "key_heads chunks features"]:
    """Return the numbers that stand for each whole chunk after the pinned keys."""
    first, size = settings.pin_first, settings.chunk
    chunks = (k.shape[1] - first) // size
    keys = k[:, first : first + chunks * size].reshape(len(k), chunks, size, -1)
    if settings.choose == "bound":
        low, high = keys.aminmax(dim=2)
        return torch.cat([high + low, high - low], -1) / 2
    mean = keys.mean(2)
    return torch.cat([mean, keys.var(2, correction=0)], -1) if settings.choose == "spread" else mean


def query_features(q: Float[Tensor, "... d"], scale: float, choose: Choose) -> Float[Tensor, "... features"]:
    """Return the numbers whose products with those of a chunk estimate log(mass / keys).

    `mean`: log mean exp(s) >= mean s. `spread`: its second cumulant is added, the variance of s with independent
    channels. `bound`: s is at most Σ_i max(q_i low_i, q_i high_i), and so is the estimated log.
    """
    q = scale * q
    if choose == "bound":
        return torch.cat([q, q.abs()], -1)
    return torch.cat([q, q.square() / 2], -1) if choose == "spread" else q


@torch.no_grad()
def chosen_chunks(
    q: Float[Tensor, "heads n d"], k: Keys, settings: Settings, scale: float
) -> Int[Tensor, "heads blocks chosen"]:
    """Return the chunks for each block of queries after `exact_up_to`, in their order in the text."""
    heads, n, _ = q.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    features = chunk_features(k.to(wide), settings).mT
    blocks = []
    for start in range(settings.exact_up_to, n, settings.window):
        chunks = (start - settings.window - settings.pin_first) // settings.chunk  # wholly before the window
        queries = query_features(q[:, start : min(start + settings.window, n)].to(wide), scale, settings.choose)
        queries = queries.reshape(len(k), -1, queries.shape[-1])  # those of one key head together
        shares = (queries @ features[..., :chunks]).softmax(-1).view(heads, -1, chunks)
        short = -shares.shape[1] % settings.block
        shares = torch.nn.functional.pad(shares, (0, 0, 0, short)) if short else shares
        best = shares.view(heads, -1, settings.block, chunks).amax(2).topk(settings.chosen, -1).indices
        blocks.append(best.sort(-1).values)
    return torch.cat(blocks, 1)


def tiles_of(chunks: Int[Tensor, "heads blocks chosen"], n: int, key_heads: int, settings: Settings) -> Tiles:
    """Return one tile per head and block of queries after `exact_up_to`: the block, and the keys of its chunks."""
    heads, blocks, _ = chunks.shape
    head = torch.arange(heads, device=chunks.device)[:, None, None]
    start = head // (heads // key_heads) * n + settings.pin_first + chunks * settings.chunk
    keys = (start[..., None] + torch.arange(settings.chunk, device=chunks.device)).flatten(2).flatten(0, 1)

    last = settings.exact_up_to + blocks * settings.block
    numbers = torch.arange(settings.exact_up_to, last, device=chunks.device).view(blocks, settings.block)
    queries = (numbers.clamp(max=n - 1) + head * n).flatten(0, 1)
    real = (numbers < n).repeat(heads, 1) if last > n else None
    return Tiles(queries, real, keys, None)
