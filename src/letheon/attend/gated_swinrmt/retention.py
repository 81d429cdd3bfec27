"""Attention weights that decay with distance, along one axis and along two axes in turn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Mask = Float[Tensor, "heads length length"]
SMALL = 1e-6


def log_decay(heads: int, initial: float = 2.0, span: float = 4.0) -> Float[Tensor, " heads"]:
    """Return ln γ_n = ln(1 - 2^-(initial + span n / heads)), n from 0 (RMT); nearest to 0 for the last head."""
    exponent = initial + span * torch.arange(heads, dtype=torch.float64) / heads
    return torch.log1p(-(2.0**-exponent))


def manhattan_decay(rates: Float[Tensor, " heads"], length: int) -> Mask:
    """Return |a - c| ln γ_n along one axis; the sum over both axes is ln γ_n times the Manhattan distance."""
    return _offsets(length, rates).abs() * rates[:, None, None]


def balanced_alibi(heads: int, length: int, like: Tensor) -> Mask:
    """Return m_n (a - c), with m_n = 2^(-8 (n + 1) / half) in the first half of the heads, -m_n in the other (SWAT)."""
    half = (heads + 1) // 2
    slopes = 2.0 ** (-8 * torch.arange(1, half + 1, dtype=like.dtype, device=like.device) / half)
    return _offsets(length, like) * torch.cat([slopes, -slopes])[:heads, None, None]


def _offsets(length: int, like: Tensor) -> Tensor:
    """Return the offsets a - c: [length, length]."""
    positions = torch.arange(length, dtype=like.dtype, device=like.device)
    return positions[:, None] - positions


class Axis(NamedTuple):
    """The map from scores along one axis to weights: softmax(score + bias), or sigmoid(score + bias) times a factor."""

    bias: Tensor
    factor: Tensor | None = None
    rowsum: bool = False

    def weights(self, scores: Float[Tensor, "... heads length length"]) -> Tensor:
        """Return the weight of every pair of positions; rows sum to 1 with softmax or `rowsum` alone."""
        if self.factor is None:
            return (scores + self.bias).softmax(-1)
        weights = (scores + self.bias).sigmoid() * self.factor
        return weights / (weights.sum(-1, keepdim=True) + SMALL) if self.rowsum else weights


def retention_axis(decay: Mask, allowed: Bool[Tensor, "... length length"]) -> Axis:
    """Softmax with the decay in log space; a pair that is not allowed has weight 0."""
    return Axis(decay.masked_fill(~allowed, -torch.inf))


def swat_axis(decay: Mask, slopes: Mask, allowed: Bool[Tensor, "... length length"], rowsum: bool = False) -> Axis:
    """Sigmoid with signed slopes, and the decay as a factor after it."""
    return Axis(slopes, decay.exp() * allowed, rowsum)


def decomposed_retention(
    q: Float[Tensor, "... rows heads columns d"],
    k: Float[Tensor, "... rows heads columns d"],
    v: Float[Tensor, "... rows heads columns d"],
    width: Axis,
    height: Axis,
) -> Float[Tensor, "... rows heads columns d"]:
    """Attend along every row, then down every column on the first result, with the same queries and keys."""
    v = width.weights(q @ k.mT).to(v.dtype) @ v
    q, k, v = (x.transpose(-4, -2) for x in (q, k, v))
    return (height.weights(q @ k.mT).to(v.dtype) @ v).transpose(-4, -2)


def full_retention(
    q: Float[Tensor, "batch rows columns heads d"],
    k: Float[Tensor, "batch rows columns heads d"],
    v: Float[Tensor, "batch rows columns heads d"],
    bias: Float[Tensor, "heads cells cells"],
) -> Float[Tensor, "batch rows columns heads d"]:
    """Attend over all cells at once with a bias, such as ln γ times Manhattan distance: the last stage of RMT."""
    q_flat, k_flat, v_flat = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))
    out = functional.scaled_dot_product_attention(q_flat, k_flat, v_flat, attn_mask=bias.to(q.dtype), scale=1.0)
    return out.transpose(1, 2).reshape(v.shape)
