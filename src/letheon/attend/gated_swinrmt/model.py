"""The gated attention module and the image backbones made of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from letheon.attend.backbone import Backbone, Block, Map, Stage, depthwise, drop_paths, named_size, start_small, stem
from letheon.attend.gated_swinrmt.retention import SMALL, decomposed_retention, full_retention
from letheon.attend.gated_swinrmt.settings import SIZES, Settings
from letheon.attend.gated_swinrmt.windows import Full, Windows, geometry_of, partition, reverse
from letheon.attend.rotary import Rotary, rotate


class GatedRetention(nn.Module):
    """Self-attention of a map: project, mix in windows, add a local convolution of the values, gate, project."""

    def __init__(self, dim: int, heads: int, settings: Settings, shifted: bool) -> None:
        super().__init__()
        self.heads, self.shifted = heads, shifted
        self.swat, self.gated = settings.variant == "swat", settings.gated
        self.project = nn.Linear(dim, (4 if settings.gated else 3) * dim)
        self.local = depthwise(dim, 5)
        rms = self.swat and settings.output_norm == "rms"
        self.norm = nn.RMSNorm(dim // heads, eps=SMALL) if rms else nn.Identity()
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Map, geometry: tuple[Windows, Windows] | Full) -> Map:
        q, k, v, *gate = self.project(x).chunk(4 if self.gated else 3, -1)
        if self.gated and self.swat:
            v = v * functional.silu(gate[0])
        mixed = self.mix(q, k * (q.shape[-1] // self.heads) ** -0.5, v, geometry) + self.local(v)
        if self.gated and not self.swat:
            mixed = mixed * gate[0].sigmoid()
        return self.out(mixed)

    def gate(self, x: Map) -> Map:
        """Return the gate G1 at a normalised map, from 0 (shut) to 1 (open)."""
        return self.project(x)[..., 3 * x.shape[-1] :].sigmoid()

    def mix(self, q: Map, k: Map, v: Map, geometry: tuple[Windows, Windows] | Full) -> Map:
        """Run both passes, or one over all cells, and the norm by head."""
        rows, columns = q.shape[1:3]
        q, k, v = (x.reshape(*x.shape[:3], self.heads, x.shape[3] // self.heads) for x in (q, k, v))
        if isinstance(geometry, Full):
            q, k = (_turned(x, geometry.rotary) for x in (q, k))
            return full_retention(q, k, v, geometry.bias).flatten(-2)
        windows = geometry[self.shifted]
        q, k, v = (partition(x, windows.size, windows.shift) for x in (q, k, v))
        q, k = (_turned(x, windows.rotary) for x in (q, k))
        out = decomposed_retention(q, k, v, windows.width, windows.height)
        return self.norm(reverse(out, rows, columns, windows.shift)).flatten(-2)


def _turned(x: Tensor, rotary: Rotary | None) -> Tensor:
    return x if rotary is None else rotate(x, rotary).to(x.dtype)


class GatedSwinRMT(Backbone):
    """The image backbones: `GatedSwinRMT("swat", num_classes=10)(images)`; images of any size, features as in timm.

    Args:
        settings: a name in `SIZES` ("retention", "swat", and "rmt", the baseline), or your own.
        stem_stride: 4 as in RMT; 2 or 1 for small images.

    Raises:
        InputError: no such model or stride.
    """

    def __init__(
        self,
        settings: str | Settings = "swat",
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        features_only: bool = False,
        stem_stride: int = 4,
    ) -> None:
        settings = named_size(SIZES, settings, "model")
        dims = settings.dims
        stages = []
        for i, rates in enumerate(drop_paths(settings.drop_path, settings.depths)):
            hidden = int(settings.mlp_ratios[i] * dims[i])
            blocks = [
                Block(
                    GatedRetention(dims[i], settings.heads[i], settings, shifted=number % 2 == 1),
                    dims[i],
                    hidden,
                    drop_path=rate,
                    layer_scale=settings.layer_scale[i],
                )
                for number, rate in enumerate(rates)
            ]
            geometry = partial(geometry_of, settings=settings, stage=i)
            stages.append(Stage(dims[i - 1] if i else None, dims[i], blocks, geometry))
        begin = stem(in_chans, (dims[0] // 2,) * 2 + (dims[0],) * 2, stem_stride, second=2)
        super().__init__(begin, stages, dims, stem_stride, num_classes=num_classes, features_only=features_only)
        start_small(self, nn.Linear)


@torch.no_grad()
def gate_maps(
    model: GatedSwinRMT, images: Float[Tensor, "batch channels height width"]
) -> list[Float[Tensor, "batch _ _ _"]]:
    """Return the gate G1 of every block of a "retention" model, over its stage's cells, from 0 (shut) to 1 (open)."""
    found = []
    x = model.stem(images.permute(0, 2, 3, 1))
    stages: Any = model.stages
    for stage in stages:
        x = stage.merge(x)
        shared = stage.geometry(x.shape[1], x.shape[2], x)
        for block in stage.blocks:
            found.append(block.attention.gate(block.norm1(x + block.position(x))))
            x = block(x, shared)
    return found
