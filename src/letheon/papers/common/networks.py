"""Small networks with seeded weights, and more seeds where a run takes a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from letheon.core.rows.sampling import stream_seed

T = TypeVar("T")


def seeded(build: Callable[[], T], seed: int) -> T:
    """Build something whose random weights depend on the seed alone; torch's global generator stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def network(sizes: Sequence[int], seed: int, *, batch_norm: bool = False) -> nn.Sequential:
    """A perceptron with ReLU, whose head has no bias.

    Args:
        sizes: inputs, hidden layers, outputs.
        batch_norm: normalise each hidden layer before its ReLU.
    """

    def build() -> nn.Sequential:
        layers: list[nn.Module] = []
        for width, out in pairwise(sizes[:-1]):
            layers += [nn.Linear(width, out), *([nn.BatchNorm1d(out)] if batch_norm else []), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=False))

    return seeded(build, stream_seed(seed, "network"))


def several(seeds: Sequence[int], each: int) -> list[int]:
    """`each` new seeds per seed, for runs so short that a scale's own seeds would say little."""
    return [each * seed + i for seed in seeds for i in range(each)]
