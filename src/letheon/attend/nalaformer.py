"""NaLaFormer: linear attention that depends on the query's norm.

Paper:   NaLaFormer: Norm-Aware Linear Attention for Transformer Models, arXiv 2506.21137 (v3: Norm x Direction:
         Restoring the Missing Query Norm in Vision Linear Attention, ICML 2026), and the authors' implementation of v3
         (MIT), read for the maps, the blocks and the five sizes.
Does:    a factor of φ(q) cancels in linear attention, and with it the query's norm, which in softmax is an inverse
         temperature. Here the norm sets a *power* that the query's direction is raised to; coordinates are split by
         sign, so that equal signs meet and opposite ones contribute nothing.
Differs: the base of the power is at least 1e-6, so that q = 0 has a result and gradients (NaN in the authors' code).
         Computed in float32 at least, as there, also under autocast. Ours: `norm_scale`; the angle "smooth" [inferred
         from the abstract: cos² + sin² = 1 keeps the norm]; and the causal form, the same maps in a running sum
         [inferred: the paper reports language models, their code is not public].
Note:    tanh saturates: where ‖q‖ is 3 or more, as at an ordinary start with heads of width 32 to 64, the power is near
         1.5 times `power` for every query. With rotary positions weights can be negative, as in the authors' code: they
         turn the numerator only. All five published sizes have softmax attention in the last two stages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from letheon.attend.backbone import (
    Backbone,
    Block,
    Conv,
    Map,
    Stage,
    depthwise,
    drop_paths,
    named_size,
    start_small,
    stem,
)
from letheon.attend.linear import linear_attention, linear_weights
from letheon.attend.rotary import Rotary, rotate, row_and_column
from letheon.core.errors import InputError

Angle = Literal["sign", "smooth"]
SMALL = 1e-6


def query_features(
    q: Float[Tensor, "... d"], power: float = 3.0, norm_scale: float = 1.0, angle: Angle = "sign"
) -> Float[Tensor, "... twice_d"]:
    """|q̂|^p split by sign, with q̂ = q / ‖q‖, p = power (1/2 + tanh(norm_scale ‖q‖)): between 1/2 and 3/2 of `power`."""
    norm = q.norm(dim=-1, keepdim=True)
    direction = q / norm.clamp_min(SMALL)
    powers = power * (0.5 + torch.tanh(norm_scale * norm))
    return _split(direction.abs().clamp_min(SMALL) ** powers, direction, angle)


def key_features(k: Float[Tensor, "... d"], power: float = 3.0, angle: Angle = "sign") -> Float[Tensor, "... twice_d"]:
    """|k|^power split by sign; keys retain their norm."""
    direction = k if angle == "sign" else k / k.norm(dim=-1, keepdim=True).clamp_min(SMALL)
    return _split(k.abs() ** power, direction, angle)


def _split(size: Tensor, direction: Tensor, angle: Angle) -> Tensor:
    """Return [size cos θ ; size sin θ], where θ is 0 for the direction +1 and π/2 for -1.

    "sign" has no other angles and gives zero where a coordinate is zero; "smooth" interpolates evenly.
    """
    if angle == "sign":
        return torch.cat([size * (direction > 0), size * (direction < 0)], -1)
    theta = math.pi / 4 * (1 - direction)
    return torch.cat([size * theta.cos(), size * theta.sin()], -1)


def nala_attention(
    q: Float[Tensor, "batch heads n_queries d"],
    k: Float[Tensor, "batch key_heads n_keys d"],
    v: Float[Tensor, "batch key_heads n_keys d_v"],
    *,
    causal: bool = False,
    power: float = 3.0,
    key_power: float = 3.0,
    norm_scale: float = 1.0,
    angle: Angle = "sign",
    rotary: Rotary | None = None,
    eps: float = 1e-6,
) -> Float[Tensor, "batch heads n_queries d_v"]:
    """Norm-aware linear attention, in time and memory that are linear in the number of tokens, causal or not.

    Args:
        q, k, v: in any floating type; computed in float32 at least and returned in q's. With fewer key heads
            than heads (grouped queries) each serves a group of neighbouring heads.
        causal: query i sees keys 0 to i; as many queries as keys.
        power: λ of the query's map; 3 in the authors' code.
        key_power: of the key's map; 3 there.
        norm_scale: of ‖q‖ before tanh; 0 freezes the power at half of `power`. An option of ours.
        rotary: turns both halves of the features in the numerator; for as many queries as keys.
        eps: added to the mean weight in the denominator; 1e-6 there.

    Raises:
        InputError: shapes that do not fit, heads that are no multiple of key heads.
    """
    _check(q, k, v)
    exact = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        phi_q = query_features(q.to(exact), power, norm_scale, angle)
        phi_k = key_features(k.to(exact), key_power, angle)
        turned = None if rotary is None else (_turned(phi_q, rotary), _turned(phi_k, rotary))
        return linear_attention(phi_q, phi_k, v.to(exact), causal=causal, numerator=turned, eps=eps).to(q.dtype)


def nala_weights(
    q: Float[Tensor, "batch heads n_queries d"],
    k: Float[Tensor, "batch heads n_keys d"],
    *,
    causal: bool = False,
    power: float = 3.0,
    key_power: float = 3.0,
    norm_scale: float = 1.0,
    angle: Angle = "sign",
    eps: float = 1e-6,
) -> Float[Tensor, "batch heads n_queries n_keys"]:
    """Return all weights, without rotary positions, for inspection and for tests: n x n memory."""
    phi_q = query_features(q, power, norm_scale, angle)
    return linear_weights(phi_q, key_features(k, key_power, angle), causal=causal, eps=eps)


def _turned(features: Tensor, rotary: Rotary) -> Tensor:
    """Rotate both halves of the features, each by itself."""
    return torch.cat([rotate(half, rotary) for half in features.chunk(2, -1)], -1)


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    found = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    fits = q.ndim == k.ndim == v.ndim == 4 and q.shape[0] == k.shape[0] and k.shape[:3] == v.shape[:3]
    if not fits or q.shape[3] != k.shape[3]:
        raise InputError(f"shapes do not fit: {found}", "give [batch, heads, n, d], as many keys as values")


# The image backbone


class GatedAttention(nn.Module):
    """Attention of a map to itself, a depthwise convolution of the values, and a gate: LN(o + local(v)) silu(g).

    Args:
        linear: norm-aware linear attention; otherwise softmax between the same gate and convolution.
    """

    def __init__(self, dim: int, heads: int, linear: bool = True) -> None:
        super().__init__()
        self.heads, self.linear = heads, linear
        self.qkvg = nn.Linear(dim, 4 * dim)
        self.local = depthwise(dim, 5)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Map, rotary: Rotary) -> Map:
        q, k, v, g = self.qkvg(x).chunk(4, -1)
        local = self.local(v)
        q, k, v = (t.reshape(len(x), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2) for t in (q, k, v))
        if self.linear:
            mixed = nala_attention(q, k, v, rotary=rotary)
        else:
            mixed = scaled_dot_product_attention(rotate(q, rotary).to(v.dtype), rotate(k, rotary).to(v.dtype), v)
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        return self.out(self.norm(mixed + local) * silu(g))


@dataclass(frozen=True)
class Size:
    """Widths, depths and heads of the stages; layer_scale is where the scales of the residual branches begin."""

    dims: Sequence[int]
    depths: Sequence[int]
    heads: Sequence[int]
    mlp_ratio: float = 3.5
    drop_path: float = 0.1
    layer_scale: Sequence[float] = (1.0, 1.0, 1.0, 1.0)


# From the authors' code; 8, 15, 26, 52 and 95 million parameters.
SIZES = {
    "xt": Size((32, 64, 128, 384), (2, 2, 2, 2), (1, 2, 4, 12)),
    "t": Size((64, 128, 256, 512), (2, 2, 6, 2), (1, 2, 4, 8), 4.0),
    "s": Size((64, 128, 320, 512), (3, 5, 9, 3), (1, 2, 5, 8), drop_path=0.15),
    "b": Size((96, 192, 384, 512), (4, 6, 12, 6), (1, 2, 6, 8), 4.0, 0.4, (1.0, 1.0, 1e-6, 1e-6)),
    "l": Size((96, 192, 448, 640), (4, 7, 19, 8), (1, 2, 7, 10), 3.5, 0.55, (1e-6, 1e-6, 1e-6, 1e-6)),
}


class NaLaFormer(Backbone):
    """The image backbone: `NaLaFormer("t", num_classes=10)(images)`; images of any size, features as in timm.

    Args:
        size: a name in `SIZES`, or your own.
        linear: which stages have norm-aware attention; the others softmax. The authors' models: the first two.
        stem_stride: 4 as published; 2 or 1 for small images.

    Raises:
        InputError: no such size or stride.
    """

    def __init__(
        self,
        size: str | Size = "t",
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        features_only: bool = False,
        linear: Sequence[bool] = (True, True, False, False),
        stem_stride: int = 4,
    ) -> None:
        size = named_size(SIZES, size, "NaLaFormer")
        first = size.dims[0]
        stages = []
        for i, rates in enumerate(drop_paths(size.drop_path, size.depths)):
            dim, heads = size.dims[i], size.heads[i]
            options = {"layer_scale": size.layer_scale[i], "position_again": True}
            hidden = int(size.mlp_ratio * dim)
            blocks = [
                # a mapping of options has one type for all of them
                Block(GatedAttention(dim, heads, linear[i]), dim, hidden, drop_path=rate, **options)  # type: ignore[arg-type]
                for rate in rates
            ]
            geometry = partial(_positions, width=dim // heads)
            stages.append(Stage(size.dims[i - 1] if i else None, dim, blocks, geometry))
        begin = stem(in_chans, (first // 2,) * 3 + (first,), stem_stride, second=3)
        super().__init__(begin, stages, size.dims, stem_stride, num_classes=num_classes, features_only=features_only)
        start_small(self, nn.Linear, Conv)


def _positions(rows: int, columns: int, like: Tensor, width: int) -> Rotary:
    return row_and_column(rows, columns, width, like)
