"""Tensors held in eight bits per number and a scale per block: AdamW's moments in a quarter of their memory.

Paper:   Dettmers et al., 8-bit Optimizers via Block-wise Quantization, arXiv 2110.02861, Sec. 2 and 3.
Differs: blocks are 256 numbers of one row, as in bitsandbytes, and end with the row, so that rows can lie in shards.
         A second moment that is not 0 is never rounded to 0: its weight would take a step of unbounded length.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

BLOCK = 256
# Numbers that are decoded at a time.
AT_ONCE = 1 << 22


@cache
def dynamic_code(signed: bool) -> Float[Tensor, " 256"]:
    """Return the 256 numbers from -1 (0 if unsigned) to 1 that a byte stands for, in order.

    Seven decades down to 1e-7; in the decade of 10^-(7 - i) the means of neighbours on a grid from 0.1 to 1 in 2^i
    steps, twice as many if unsigned; and 0 and 1.
    """
    points = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1.0, 2 ** (decade if signed else decade + 1) + 1, dtype=torch.float64)
        means = ((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)).tolist()
        points += means + ([-mean for mean in means] if signed else [])
    return torch.tensor(sorted(points), dtype=torch.float32)


def encoded(
    values: Float[Tensor, "rows columns"], signed: bool
) -> tuple[UInt8[Tensor, "rows columns"], Float[Tensor, "rows blocks"]]:
    """Return the nearest bytes, and the largest size in each block, which is its scale."""
    code, columns = dynamic_code(signed).to(values.device), values.shape[1]
    blocks = functional.pad(values, (0, -columns % BLOCK)).reshape(len(values), -(-columns // BLOCK), BLOCK)
    scale = blocks.abs().amax(-1)
    shares = blocks / scale.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1)
    nearest = torch.bucketize(shares, (code[1:] + code[:-1]) / 2, out_int32=True)
    if not signed:
        nearest = torch.where(blocks > 0, nearest.clamp(min=1), nearest)
    return nearest.to(torch.uint8).flatten(1)[:, :columns], scale


def decoded(
    bytes_: UInt8[Tensor, "rows columns"], scale: Float[Tensor, "rows blocks"], signed: bool
) -> Float[Tensor, "rows columns"]:
    """Return the numbers that `encoded` has rounded."""
    code = dynamic_code(signed).to(bytes_.device)
    return code[bytes_.int()] * scale.repeat_interleave(BLOCK, 1)[:, : bytes_.shape[1]]


def pieces(shape: torch.Size) -> Iterator[slice]:
    """Yield slices of rows that have about `AT_ONCE` numbers each."""
    rows, width = shape[0], max(1, shape[1:].numel())
    step = max(1, AT_ONCE // width)
    return (slice(start, start + step) for start in range(0, rows, step))


class EightBits:
    """A tensor of a parameter's shape in an optimizer's state: bytes under `name`, scales under `name/scale`.

    Args:
        state: the state, which gets zeros if it has no such tensor yet.
        like: the parameter, of at least two dimensions.
        signed: whether numbers below 0 occur.
    """

    def __init__(self, state: MutableMapping[str, Tensor], name: str, like: Tensor, signed: bool) -> None:
        self.signed, rows, columns = signed, len(like), like.shape[1:].numel()
        if name not in state:
            state[name] = torch.zeros(like.shape, dtype=torch.uint8, device=like.device)
            state[f"{name}/scale"] = torch.zeros(rows, -(-columns // BLOCK), device=like.device)
        self.bytes, self.scale = state[name].view(rows, columns), state[f"{name}/scale"]

    def read(self, rows: slice) -> Float[Tensor, "rows columns"]:
        """Return some rows as numbers."""
        return decoded(self.bytes[rows], self.scale[rows], self.signed)

    def write(self, rows: slice, values: Float[Tensor, "rows columns"]) -> None:
        """Round some rows."""
        self.bytes[rows], self.scale[rows] = encoded(values, self.signed)
