"""The base of the image backbones: stem, blocks, stages and head, with the interface of timm's models.

Images and returned maps are [batch, channels, rows, columns]; inside, maps are [batch, rows, columns, channels]. No
parameter depends on the size of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.errors import InputError, nearest

Map = Float[Tensor, "batch rows columns channels"]
# (rows, columns, a tensor of the wanted type and device) -> data that the blocks of a stage share, such as masks
Geometry = Callable[[int, int, Tensor], Any]
Size = TypeVar("Size")
PROJECTION = 1024  # channels before the classifier (RMT, NaLaFormer)


class Conv(nn.Conv2d):
    """A convolution of [batch, rows, columns, channels]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of [batch, rows, columns, channels]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def depthwise(channels: int, size: int) -> Conv:
    """Return a convolution per channel that preserves rows and columns."""
    return Conv(channels, channels, size, padding=size // 2, groups=channels)


def stem(in_chans: int, widths: Sequence[int], stride: int, second: int) -> nn.Sequential:
    """Return 3x3 convolutions with batch normalisation and GELU between them.

    Args:
        stride: 4 halves rows and columns at the first layer and at layer `second`, 2 at the first alone, 1 at none.

    Raises:
        InputError: another stride.
    """
    if stride not in (4, 2, 1):
        raise InputError(f"stem_stride is {stride}", "give 4, 2 or 1")
    layers: list[nn.Module] = []
    for i, (before, width) in enumerate(pairwise([in_chans, *widths])):
        halved = (i == 0 and stride > 1) or (i == second and stride > 2)
        layers += [Conv(before, width, 3, 1 + halved, 1), BatchNorm(width), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class FeedForward(nn.Module):
    """fc1, GELU, a residual depthwise convolution, fc2."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.local = depthwise(hidden, 3)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Map) -> Map:
        x = nn.functional.gelu(self.fc1(x))
        return self.fc2(x + self.local(x))


class Branch(nn.Module):
    """Scale a residual branch by channel, where wanted, and drop it at random per row in training."""

    def __init__(self, dim: int, drop_path: float, layer_scale: float | None) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.scale = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Map) -> Map:
        if self.scale is not None:
            x = x * self.scale
        if not self.training or self.drop_path == 0:
            return x
        kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.drop_path)
        return x * kept / (1 - self.drop_path)


class Block(nn.Module):
    """Residual branches: position, attention, optionally position again, feed-forward.

    Args:
        attention: module of the normalised map and the stage's geometry.
        hidden: width of the feed-forward layer.
        position_again: a second depthwise convolution, before the feed-forward (NaLaFormer).
    """

    def __init__(
        self,
        attention: nn.Module,
        dim: int,
        hidden: int,
        *,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        position_again: bool = False,
    ) -> None:
        super().__init__()
        self.position = depthwise(dim, 3)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = attention
        self.branch1 = Branch(dim, drop_path, layer_scale)
        self.position_again = depthwise(dim, 3) if position_again else None
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.feed_forward = FeedForward(dim, hidden)
        self.branch2 = Branch(dim, drop_path, layer_scale)

    def forward(self, x: Map, geometry: Any) -> Map:
        x = x + self.position(x)
        x = x + self.branch1(self.attention(self.norm1(x), geometry))
        if self.position_again is not None:
            x = x + self.position_again(x)
        return x + self.branch2(self.feed_forward(self.norm2(x)))


class Stage(nn.Module):
    """Blocks on a map of one size; every stage but the first begins by halving rows and columns."""

    def __init__(self, before: int | None, dim: int, blocks: Sequence[nn.Module], geometry: Geometry) -> None:
        super().__init__()
        self.merge = nn.Identity() if before is None else nn.Sequential(Conv(before, dim, 3, 2, 1), BatchNorm(dim))
        self.blocks = nn.ModuleList(blocks)
        self.geometry = geometry

    def forward(
        self, x: Float[Tensor, "batch rows_in columns_in channels_in"]
    ) -> Float[Tensor, "batch rows columns channels"]:
        x = self.merge(x)
        shared = self.geometry(x.shape[1], x.shape[2], x)
        for block in self.blocks:
            x = block(x, shared)
        return x


class Backbone(nn.Module):
    """Stem, stages, head, with timm's names: `forward_features`, `forward_head`, `feature_info`, `reset_classifier`.

    Args:
        stem: module from an image to the first stage's map.
        dims: channels per stage.
        stem_stride: width of a cell of the first stage in pixels.
        num_classes: number of logits; 0 returns the pooled features [batch, num_features].
        features_only: return the maps of all stages, without a head.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Stage],
        dims: Sequence[int],
        stem_stride: int,
        *,
        num_classes: int,
        features_only: bool,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.in_chans: int = stem[0].in_channels  # type: ignore[index]  # a stem begins with a convolution
        self.num_features = dims[-1] if features_only else PROJECTION
        self.features_only = features_only
        self.feature_info = [
            {"num_chs": dim, "reduction": stem_stride * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        if not features_only:
            self.project = nn.Sequential(nn.Linear(dims[-1], PROJECTION), BatchNorm(PROJECTION), nn.SiLU())
            self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one for `num_classes` classes."""
        self.num_classes = num_classes
        self.head = nn.Linear(PROJECTION, num_classes) if num_classes else nn.Identity()

    def forward_maps(self, x: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Return the map of every stage, [batch, channels, rows, columns]."""
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise InputError(f"images are {tuple(x.shape)}", f"give [batch, {self.in_chans}, height, width]")
        x = self.stem(x.permute(0, 2, 3, 1))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x.permute(0, 3, 1, 2))
        return maps

    def forward_features(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Return the last map, [batch, channels, rows, columns]."""
        return self.forward_maps(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits [batch, num_classes] of the last map, or the pooled features with `pre_logits`."""
        pooled = self.project(x.permute(0, 2, 3, 1)).mean((1, 2))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor | list[Tensor]:
        return self.forward_maps(x) if self.features_only else self.forward_head(self.forward_features(x))


def named_size(sizes: Mapping[str, Size], size: str | Size, kind: str) -> Size:
    """Return the size of a name, or the given size itself.

    Raises:
        InputError: no size has that name.
    """
    if not isinstance(size, str):
        return size
    if size not in sizes:
        raise InputError(f"there is no {kind} {size!r}", nearest(size, list(sizes)))
    return sizes[size]


def drop_paths(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return drop rates per stage and block, rising evenly from 0 to the rate."""
    blocks, last = iter(range(sum(depths))), max(sum(depths) - 1, 1)
    return [[rate * next(blocks) / last for _ in range(depth)] for depth in depths]


def start_small(model: nn.Module, *kinds: type[nn.Module]) -> None:
    """Initialise layers of these kinds: weights with standard deviation 0.02, truncated at 2; biases zero."""
    for layer in model.modules():
        if isinstance(layer, kinds):
            nn.init.trunc_normal_(layer.weight, std=0.02)  # type: ignore[arg-type]  # the kinds given have weights
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # and biases
