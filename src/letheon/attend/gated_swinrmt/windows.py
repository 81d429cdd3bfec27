"""Windows of a map, in place or shifted by half a window, with the masks that its blocks share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from letheon.attend.gated_swinrmt.retention import (
    Axis,
    balanced_alibi,
    log_decay,
    manhattan_decay,
    retention_axis,
    swat_axis,
)
from letheon.attend.gated_swinrmt.settings import Settings
from letheon.attend.rotary import Rotary, row_major


class Windows(NamedTuple):
    """The size of a window in cells, the roll of the map, and the masks and positions that blocks share."""

    size: tuple[int, int]
    shift: tuple[int, int]
    width: Axis
    height: Axis
    rotary: Rotary | None


class Full(NamedTuple):
    """The bias and positions of attention over all cells."""

    bias: Tensor
    rotary: Rotary | None


def partition(
    x: Float[Tensor, "batch rows columns heads d"], size: tuple[int, int], shift: tuple[int, int]
) -> Float[Tensor, "batch down across window_rows heads window_columns d"]:
    """Pad a map to whole windows, roll it by -shift, and cut it."""
    short = [-n % m for n, m in zip(x.shape[1:3], size, strict=True)]
    x = functional.pad(x, (0, 0, 0, 0, 0, short[1], 0, short[0]))
    if any(shift):
        x = x.roll((-shift[0], -shift[1]), (1, 2))
    down, across = x.shape[1] // size[0], x.shape[2] // size[1]
    x = x.reshape(len(x), down, size[0], across, size[1], *x.shape[3:])
    return x.permute(0, 1, 3, 2, 5, 4, 6)


def reverse(
    x: Float[Tensor, "batch down across window_rows heads window_columns d"],
    rows: int,
    columns: int,
    shift: tuple[int, int],
) -> Float[Tensor, "batch rows columns heads d"]:
    """Undo `partition` for a map of these rows and columns."""
    x = x.permute(0, 1, 3, 2, 5, 4, 6).flatten(3, 4).flatten(1, 2)
    if any(shift):
        x = x.roll(shift, (1, 2))
    return x[:, :rows, :columns]


def same_region(length: int, window: int, shift: int, device: torch.device) -> Bool[Tensor, "windows window window"]:
    """Return which cells of a window are neighbours on the unrolled axis, after padding and a roll by -shift.

    Cells that the roll moved over from the beginning, and padding, are regions of their own.
    """
    padded = length + -length % window
    cell = (torch.arange(padded, device=device) + shift) % padded
    region = torch.where(cell >= length, 2, (cell < shift).long()).view(-1, window)
    return region[:, :, None] == region[:, None, :]


def geometry_of(
    rows: int, columns: int, like: Tensor, settings: Settings, stage: int
) -> tuple[Windows, Windows] | Full:
    """Return the windows in place and shifted by half, or the matrix of all cells."""
    heads = settings.heads[stage]
    rates = torch.zeros(heads) if settings.decay is None else log_decay(heads, *settings.decay[stage])
    rates = rates.to(like.device, torch.promote_types(like.dtype, torch.float32))
    limit = max(rows, columns) if settings.window is None else settings.window
    size = (min(limit, rows), min(limit, columns))
    rotary = row_major(*size, settings.dims[stage] // heads, rates) if settings.rotary else None
    if settings.full[stage]:
        down, across = (manhattan_decay(rates, n) for n in (rows, columns))
        bias = (down[:, :, None, :, None] + across[:, None, :, None, :]).flatten(3, 4).flatten(1, 2)
        return Full(bias, _along(rotary, 2))
    half = (size[0] // 2 * (size[0] < rows), size[1] // 2 * (size[1] < columns))
    in_place, shifted = (
        Windows(size, shift, *_axes((rows, columns), size, shift, rates, settings), _along(rotary, 1))
        for shift in ((0, 0), half)
    )
    return in_place, shifted


def _along(rotary: Rotary | None, heads: int) -> Rotary | None:
    """Insert a dimension for heads."""
    return rotary and Rotary(rotary.sin.unsqueeze(heads), rotary.cos.unsqueeze(heads))


def _axes(
    cells: tuple[int, int], size: tuple[int, int], shift: tuple[int, int], rates: Tensor, settings: Settings
) -> tuple[Axis, Axis]:
    """Return the axes of the passes along rows and down columns."""
    down, across = (same_region(*axis, rates.device) for axis in zip(cells, size, shift, strict=True))

    def axis(length: int, allowed: Tensor) -> Axis:
        decay = manhattan_decay(rates, length)
        if settings.variant == "retention":
            return retention_axis(decay, allowed)
        slopes = balanced_alibi(len(rates), length, rates) * settings.balanced
        return swat_axis(decay, slopes, allowed, settings.output_norm == "rowsum")

    # scores are [batch, down, across, rows, heads, columns, columns]; in the second pass rows and columns are exchanged
    return axis(size[1], across[:, None, None]), axis(size[0], down[:, None, None, None])
