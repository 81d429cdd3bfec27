"""What papers on continual learning share: a small network without a bias at its head, and more seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from letheon.core.rows.sampling import stream_seed


def network(sizes: Sequence[int], seed: int, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them, perhaps with batch normalisation before it, and a head without a bias."""

    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "network"))
        layers: list[nn.Module] = []
        for width, out in pairwise(sizes[:-1]):
            layers += [nn.Linear(width, out), *([nn.BatchNorm1d(out)] if batch_norm else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=False))


def several(seeds: Sequence[int], each: int) -> list[int]:
    """So many seeds for each one: runs of a second are repeated more often than a scale asks for."""
    return [each * seed + i for seed in seeds for i in range(each)]
