"""Sorting by angle: codes whose neighbours differ in one sign, and their order.

Paper:   HyperAttention, arXiv 2310.05869, Sec. 2 (sortLSH).
Differs: the authors' code takes the Gray sequence itself for the ranks, where some neighbours differ in several signs.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


def gray_ranks(bits: int) -> UInt8[Tensor, " codes"]:
    """Return [2^bits] the rank of each pattern of signs in the Gray sequence, whose neighbours differ in one bit."""
    sequence = torch.tensor([0, 1])
    for bit in range(1, bits):
        sequence = torch.cat([sequence, sequence.flip(0) + 2**bit])
    return sequence.argsort().to(torch.uint8)


def angular_codes(
    x: Float[Tensor, "heads n d"], directions: Float[Tensor, "d r"], centre: Float[Tensor, "heads 1 d"] | None = None
) -> UInt8[Tensor, "heads n"]:
    """Return the rank of each row's pattern of signs along random directions; Pr[same sign] = 1 - angle / π.

    Args:
        directions: shared by all heads, and by queries and keys.
        centre: subtracted from the rows first.
    """
    directions = directions.to(x.dtype)
    threshold = 0.0 if centre is None else centre @ directions
    signs = (x @ directions > threshold).to(torch.float32)
    powers = 2.0 ** torch.arange(directions.shape[1], device=x.device)
    return gray_ranks(directions.shape[1]).to(x.device)[(signs @ powers).to(torch.int32)]


def order_of(codes: UInt8[Tensor, "*groups n"]) -> Int[Tensor, "*groups n"]:
    """Return positions sorted by code; equal codes stay in order."""
    if codes.device.type == "cpu":  # numpy sorts bytes by counting, about fifty times faster than torch here
        return torch.from_numpy(np.argsort(codes.numpy(), axis=-1, kind="stable"))
    return torch.argsort(codes, dim=-1, stable=True)
