"""The estimated rectangles as tiles of one size: consecutive queries of the sorted order, and their keys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.attend.hyper.hashing import order_of
from letheon.attend.hyper.plan import Piece
from letheon.attend.hyper.settings import Settings

# A score of this has weight zero; infinity would give NaN where a kernel's whole step is hidden.
HIDDEN = -1e30


@dataclass
class Tiles:
    """Tiles by the numbers of their rows in the flattened tensors [heads * n, d].

    Attributes:
        queries: [tiles, r] numbers of queries.
        real: [tiles, r] False where a query only pads its tile; None without padding.
        keys: [tiles, s] numbers of a block's keys, the pinned keys and the sampled keys.
        mask: [tiles, s] added to the scores: 0, the log of how many keys a sample stands for, or `HIDDEN`; None adds
            nothing.
    """

    queries: Int[Tensor, "tiles r"]
    real: Bool[Tensor, "tiles r"] | None
    keys: Int[Tensor, "tiles s"]
    mask: Float[Tensor, "tiles s"] | None

    def bias(self) -> Float[Tensor, "one tiles one s"] | None:
        """Return what the kernels add to the scores of every query of a tile."""
        return None if self.mask is None else self.mask[None, :, None]

    def chunks(self, size: int) -> Iterator[Tiles]:
        """Yield the tiles in parts of `size`, small enough for the CPU's cache."""
        for start in range(0, len(self.queries), size):
            part = slice(start, start + size)
            real = None if self.real is None else self.real[part]
            mask = None if self.mask is None else self.mask[part]
            yield Tiles(self.queries[part], real, self.keys[part], mask)


@dataclass(frozen=True)
class Sorting:
    """Codes for sorting and norms for sampling, without gradients."""

    query_codes: Tensor  # [heads, n_queries] codes
    key_codes: Tensor  # [key heads, n_keys] codes
    value_norms: Tensor | None  # [key heads, n_keys] ‖v‖², where samples are drawn by norm


def pinned_columns(piece: Piece, causal: bool, settings: Settings) -> Int[Tensor, "nodes pinned"]:
    """Return the keys of each rectangle that all its queries attend to: the first keys and the nearest keys.

    A rectangle without the text's beginning has more of the nearest keys instead.
    """
    first, recent = settings.pin_first, settings.pin_recent if causal else 0
    columns = torch.arange(piece.columns)
    ends = torch.cat([columns[:first], columns[piece.columns - recent :]])
    nearest = columns[piece.columns - first - recent :]
    starts = [piece.keys + node * piece.stride for node in range(piece.nodes)]
    return torch.stack([ends if start == 0 else nearest for start in starts])


def sampled_ranks(
    piece: Piece, uniform: Float[Tensor, "heads nodes m"], weights: Float[Tensor, "heads nodes columns"] | None, by: str
) -> tuple[Int[Tensor, "heads nodes m"], Float[Tensor, "heads nodes m"]]:
    """Return the sampled ranks among the sorted keys, and the log of how many keys each stands for.

    Args:
        uniform: random numbers in [0, 1).
        weights: weight per sorted key, for `row_norm`: key j has probability p_j and stands for 1 / (m p_j) keys.
    """
    columns, m = piece.columns, uniform.shape[-1]
    if weights is not None:
        total = weights.cumsum(-1, dtype=torch.float64)
        ranks = torch.searchsorted(total, uniform * total[..., -1:], right=True).clamp(max=columns - 1)
        chosen = weights.gather(-1, ranks) / total[..., -1:]
        return ranks, -(m * chosen).log()
    if by == "stratified":
        uniform = (uniform + torch.arange(m, device=uniform.device)) / m
    ranks = (uniform * columns).long().clamp(max=columns - 1)
    return ranks, torch.full_like(uniform, math.log(columns / max(m, 1)))


def tiles_of(
    piece: Piece, sorting: Sorting, uniform: Float[Tensor, "heads nodes m"], causal: bool, settings: Settings
) -> Tiles:
    """Sort, cut into blocks and draw samples: return the tiles of a piece."""
    heads, n_queries = sorting.query_codes.shape
    key_heads, n_keys = sorting.key_codes.shape
    columns, mask = _columns(piece, sorting, uniform, causal, settings)

    # from numbers within a rectangle to numbers in the flattened tensors
    head = torch.arange(heads, device=columns.device)[:, None]
    start = torch.arange(piece.nodes, device=columns.device) * piece.stride
    of_keys = head // (heads // key_heads) * n_keys + piece.keys + start
    of_queries = head * n_queries + piece.queries + start
    keys = (columns + of_keys[..., None, None]).flatten(0, 2)

    blocks = columns.shape[2]
    rows = -(-piece.rows // blocks)
    by_query = order_of(piece.of_queries(sorting.query_codes))
    queries = (_padded(by_query, rows * blocks) + of_queries[..., None]).view(-1, rows)
    real = None
    if rows * blocks > piece.rows:
        real = torch.arange(rows * blocks, device=columns.device).lt(piece.rows)
        real = real.repeat(heads * piece.nodes).view(-1, rows)
    return Tiles(queries, real, keys, mask.flatten(0, 2))


def _columns(
    piece: Piece, sorting: Sorting, uniform: Tensor, causal: bool, settings: Settings
) -> tuple[Int[Tensor, "heads nodes blocks s"], Float[Tensor, "heads nodes blocks s"]]:
    """Return each query block's keys within its rectangle, and the addition to their scores."""
    block = settings.block_size
    blocks = -(-piece.columns // block)
    shape = (len(sorting.query_codes), piece.nodes, blocks, -1)
    group = len(sorting.query_codes) // len(sorting.key_codes)

    by_key = order_of(piece.of_keys(sorting.key_codes))
    weights = None
    if sorting.value_norms is not None:
        weights = piece.of_keys(sorting.value_norms).gather(-1, by_key).repeat_interleave(group, 0)
    by_key = by_key.repeat_interleave(group, 0)
    ranks, stands_for = sampled_ranks(piece, uniform, weights, settings.sampling)

    pinned = pinned_columns(piece, causal, settings).to(by_key.device)
    is_pinned = torch.zeros(piece.nodes, piece.columns, dtype=torch.bool, device=by_key.device)
    is_pinned = is_pinned.scatter_(1, pinned, True).expand(shape[0], -1, -1).gather(-1, by_key)

    own = (ranks // block)[:, :, None] == torch.arange(blocks, device=by_key.device)[:, None]
    hidden = [
        _padded(is_pinned, blocks * block, True).view(*shape[:3], block),
        torch.zeros_like(pinned, dtype=torch.bool)[:, None].expand(shape),
        own | is_pinned.gather(-1, ranks)[:, :, None],
    ]
    columns = [
        _padded(by_key, blocks * block).view(*shape[:3], block),
        pinned[:, None].expand(shape),
        by_key.gather(-1, ranks)[:, :, None].expand(shape),
    ]
    ones = uniform.new_zeros(*shape[:3], block + pinned.shape[1])
    mask = torch.cat([ones, stands_for[:, :, None].expand(shape)], -1)
    return torch.cat(columns, -1), mask.masked_fill_(torch.cat(hidden, -1), HIDDEN)


def _padded(x: Tensor, length: int, value: bool = False) -> Tensor:
    """[..., n] -> [..., length], padded with a value."""
    short = length - x.shape[-1]
    return torch.nn.functional.pad(x, (0, short), value=value) if short else x
