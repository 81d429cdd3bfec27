"""Rotary positions: pairs of neighbouring coordinates rotate by an angle that grows with the position."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Rotary(NamedTuple):
    """Sine and cosine of every angle, [..., d], each repeated twice."""

    sin: Tensor
    cos: Tensor


def rotate(x: Float[Tensor, "... d"], rotary: Rotary) -> Float[Tensor, "... d"]:
    """Rotate the pairs (x_0, x_1), (x_2, x_3), ...; norms do not change."""
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * rotary.cos + turned * rotary.sin


def rotary_of(positions: Float[Tensor, " ..."], width: int) -> Rotary:
    """Return angles position / 10000^t, with t evenly from 0 to 1: [..., width] for an even width."""
    share = torch.linspace(0, 1, width // 2, dtype=positions.dtype, device=positions.device)
    angles = (positions[..., None] * 10000.0**-share).repeat_interleave(2, -1)
    return Rotary(angles.sin(), angles.cos())


def row_major(rows: int, columns: int, width: int, like: Tensor) -> Rotary:
    """Return angles [rows, columns, width]; the position is the cell's number, row by row."""
    cells = _positions(rows * columns, like)
    return rotary_of(cells.view(rows, columns), width)


def row_and_column(rows: int, columns: int, width: int, like: Tensor) -> Rotary:
    """Return angles [rows columns, width]; one half rotates with the row, the other with the column."""
    axes = [_positions(n, like) for n in (rows, columns)]
    halves = [rotary_of(axis, width // 2) for axis in torch.meshgrid(*axes, indexing="ij")]
    sin, cos = (torch.cat(parts, -1).flatten(0, 1) for parts in zip(*halves, strict=True))
    return Rotary(sin, cos)


def _positions(n: int, like: Tensor) -> Tensor:
    """Return 0 to n - 1, in float32 at least, as bfloat16 cannot count beyond 256."""
    return torch.arange(n, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
