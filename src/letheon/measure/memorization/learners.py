"""Learners for subset runs: small networks trained many at a time with `torch.func.vmap`, and nearest neighbours.

All networks of a group have the same shapes, so that one pass of stacked weights trains them together. Each has its own
subset, its own initial values and its own order of rows; every subset has the same size, so the batches line up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.progress import progress
from letheon.core.rows.sampling import stream_seed
from letheon.measure.memorization.estimators import SubsetRuns

Weights = list[Tensor]


@dataclass(frozen=True)
class LabelledRows:
    """Rows with a class each.

    Attributes:
        inputs: one feature vector per row.
        labels: classes from 0.
        test_inputs, test_labels: rows on which nothing is trained.
    """

    inputs: Float[Tensor, "train features"]
    labels: Int[Tensor, " train"]
    test_inputs: Float[Tensor, "test features"]
    test_labels: Int[Tensor, " test"]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(max(self.labels.max(), self.test_labels.max())) + 1


class Learner(Protocol):
    """A learning algorithm that is run on many subsets."""

    @property
    def name(self) -> str: ...

    def facts(self) -> dict[str, Any]:
        """Return what decides the models."""
        ...

    def run(self, rows: LabelledRows, mask: Bool[np.ndarray, "runs train"], seed: int) -> SubsetRuns:
        """Train one model per row of `mask` on the rows that it marks; predict every training and test row."""
        ...


@dataclass(frozen=True)
class Mlp:
    """A multilayer perceptron, momentum SGD.

    Attributes:
        hidden: widths of the hidden layers.
        epochs, batch_size, learning_rate, momentum: of the training; the reference's MNIST demo has 10 epochs, batches
            of 128, rate 0.1 and momentum 0.9.
        group: models that are trained together.
    """

    hidden: tuple[int, ...] = (64,)
    epochs: int = 80
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    group: int = 50

    @property
    def name(self) -> str:
        """The learner as the command line has it."""
        return "mlp=" + "-".join(map(str, self.hidden))

    def facts(self) -> dict[str, Any]:
        """Return shapes and training settings."""
        return {"kind": "learner", **vars(self)}

    def run(self, rows: LabelledRows, mask: Bool[np.ndarray, "runs train"], seed: int) -> SubsetRuns:
        """Train in groups."""
        parts = []
        with progress("training on subsets", len(mask)) as advance:
            for start in range(0, len(mask), self.group):
                chosen = mask[start : start + self.group]
                weights = self.train(rows, chosen, [stream_seed(seed, "run", start + i) for i in range(len(chosen))])
                parts.append(SubsetRuns(chosen, *(predictions_right(weights, *pair) for pair in _sets(rows))))
                advance(start + len(chosen))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def train(self, rows: LabelledRows, mask: Bool[np.ndarray, "runs train"], seeds: Sequence[int]) -> Weights:
        """Train one network per subset; return stacked weights and biases."""
        sizes = [rows.inputs.shape[1], *self.hidden, rows.classes]
        weights = [torch.stack(layer) for layer in zip(*(_initial(sizes, seed) for seed in seeds), strict=True)]
        members = torch.from_numpy(np.stack([np.flatnonzero(row) for row in mask]))  # [runs, size]
        order = [torch.Generator().manual_seed(seed) for seed in seeds]
        speed = [torch.zeros_like(weight) for weight in weights]
        gradient = torch.func.vmap(torch.func.grad(_loss))
        for _ in range(self.epochs):
            shuffled = torch.stack([torch.randperm(members.shape[1], generator=g) for g in order])
            epoch = members.gather(1, shuffled)
            for start in range(0, epoch.shape[1], self.batch_size):
                batch = epoch[:, start : start + self.batch_size]
                steps = gradient(weights, rows.inputs[batch], rows.labels[batch])
                for weight, velocity, step in zip(weights, speed, steps, strict=True):
                    velocity.mul_(self.momentum).add_(step)
                    weight.sub_(velocity, alpha=self.learning_rate)
        return weights


def _initial(sizes: Sequence[int], seed: int) -> Weights:
    """Draw weights and biases uniformly within 1 / sqrt(inputs), torch's initial values of linear layers."""
    generator = torch.Generator().manual_seed(seed)
    made: Weights = []
    for width, out in pairwise(sizes):
        bound = 1 / math.sqrt(width)
        made += [(torch.rand(shape, generator=generator) * 2 - 1) * bound for shape in ((out, width), (out,))]
    return made


def logits(weights: Weights, inputs: Tensor) -> Tensor:
    """Run one network."""
    for i in range(0, len(weights), 2):
        inputs = functional.linear(inputs, weights[i], weights[i + 1])
        if i + 2 < len(weights):
            inputs = inputs.relu()
    return inputs


def _loss(weights: Weights, inputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits(weights, inputs), labels)


@torch.no_grad()
def predictions_right(weights: Weights, inputs: Tensor, labels: Tensor) -> Bool[np.ndarray, "runs rows"]:
    """Compute which rows each network predicts rightly."""
    found = torch.func.vmap(logits, in_dims=(0, None))(weights, inputs).argmax(-1)
    return (found == labels).numpy()


def _sets(rows: LabelledRows) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return (rows.inputs, rows.labels), (rows.test_inputs, rows.test_labels)


@dataclass(frozen=True)
class Nearest:
    """The nearest neighbour's class by Euclidean distance; a row of the subset is its own neighbour."""

    name = "nearest"

    def facts(self) -> dict[str, Any]:
        """Return the kind."""
        return {"kind": "learner", "neighbours": 1}

    def run(self, rows: LabelledRows, mask: Bool[np.ndarray, "runs train"], seed: int) -> SubsetRuns:
        """Look up neighbours within each subset."""
        parts = [torch.cdist(inputs, rows.inputs) for inputs, _ in _sets(rows)]
        right: list[list[np.ndarray]] = [[], []]
        for row in torch.from_numpy(mask):
            for found, distance, (_, labels) in zip(right, parts, _sets(rows), strict=True):
                near = distance.masked_fill(~row, math.inf).argmin(1)
                found.append((rows.labels[near] == labels).numpy())
        return SubsetRuns(mask, np.stack(right[0]), np.stack(right[1]))


def read_learner(text: str) -> Learner:
    """Read `mlp`, `mlp=64-64` or `nearest`.

    Raises:
        InputError: another text.
    """
    name, _, hidden = text.partition("=")
    if name == "nearest" and not hidden:
        return Nearest()
    try:
        widths = tuple(int(width) for width in hidden.split("-")) if hidden else Mlp.hidden
    except ValueError:
        widths = (0,)
    if name != "mlp" or min(widths) < 1:
        raise InputError(f"learner {text!r}", "write mlp, mlp=64-64 or nearest")
    return Mlp(hidden=widths)
