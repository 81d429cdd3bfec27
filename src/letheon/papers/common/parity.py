"""Parity of digits: a new task with several right answers per row, and an old task that may be forgotten meanwhile.

A network sees 64 pixels and a bit. Bit 0 asks for the digit, whose pixels are permuted. Bit 1 asks whether the digit is
even, where any class of the right parity is a right answer. The base network knows the first task well and the second
a little.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from letheon.retain.composition import Composition
from letheon.retain.learn import learn
from letheon.retain.learner import Learner
from letheon.retain.models import mlp
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.rft import RFT
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Stream, held_out, task_of
from letheon.retain.streams.datasets import TEST_SHARE
from letheon.retain.streams.digits import digits

SIZES = [65, 128, 128, 10]
WARM_UP_ROWS = 350  # rows of parity that the base network learns from; its accuracy is then about 0.91
BASE: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 32, "epochs": 15}
CHECK_EVERY = 5  # steps between two tests of the new task's accuracy

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Parity:
    """The base network, the new task, and the test rows of both tasks.

    Attributes:
        base: the network before the new task.
        stream: one task, parity, with targets 0 and 1.
        old, new: test inputs and targets of both tasks: ten classes, and parity.
        matching: further rows of the new task, by which it is seen that an accuracy is reached.
    """

    base: nn.Module
    stream: Stream
    old: Pair
    new: Pair
    matching: Pair

    def old_accuracy(self, model: nn.Module) -> float:
        """Share of old test rows whose class has the largest logit."""
        return _share(model(self.old[0]).argmax(1) == self.old[1])

    def new_accuracy(self, model: nn.Module, rows: Pair | None = None) -> float:
        """Share of rows (the new test rows) for which the class of the largest logit has the right parity."""
        inputs, targets = rows or self.new
        return _share(model(inputs).argmax(1) % 2 == targets)

    @torch.no_grad()
    def divergence(self, model: nn.Module) -> float:
        """Mean KL(model || base) on the new task's test rows, nats."""
        now, before = (one(self.new[0]).log_softmax(-1) for one in (model, self.base))
        return float((now.exp() * (now - before)).sum(-1).mean())


@dataclass
class Matched:
    """One arm where it first reached the target accuracy on the new task; None where it never did.

    Attributes:
        base_old, base_new: accuracies of the base network.
        old, new: accuracies; the new one on rows other than those by which it was seen that the target is reached.
        divergence: KL from the base network on the new task, nats.
        steps: optimizer steps taken.
        kept: share of rows that the strategy trained on.
        path: (new accuracy on the rows for matching, old accuracy) at each test so far.
    """

    base_old: float
    base_new: float
    old: float | None = None
    new: float | None = None
    divergence: float | None = None
    steps: int | None = None
    kept: float = 1.0
    path: list[tuple[float, float]] = field(default_factory=list)


def right_parity(drawn: Int[Tensor, "n group"], rows: TaskRows) -> Float[Tensor, "n group"]:
    """1.0 where a class of the right parity was drawn, else 0.0."""
    return (drawn % 2 == rows.targets[:, None]).float()


def make_parity(seed: int) -> Parity:
    """Draw the rows and train the base network on the old task and on a few rows of the new one.

    The few rows get random classes of the right parity, so that the network prefers none of them.
    """
    images, labels = digits()
    train, test = held_out(len(labels), TEST_SHARE, seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(images.shape[1], generator=generator)
    old, new = _with_bit(images[:, order], 0.0), _with_bit(images, 1.0)
    few = train[torch.randperm(len(train), generator=generator)[:WARM_UP_ROWS]]
    any_right = 2 * torch.randint(5, (len(few),), generator=generator) + labels[few] % 2
    known = torch.cat([old[train], new[few]]), torch.cat([labels[train], any_right])
    base = mlp(SIZES, seed)
    first = Stream("base", (task_of("base", 0, known, (old[test], labels[test])),), "domain")
    learn(base, first, "naive", seed=seed, **BASE)
    even_or_odd = labels % 2
    task = task_of("parity", 0, (new[train], even_or_odd[train]), (new[test], even_or_odd[test]), range(10))
    matching, rest = ((new[rows], even_or_odd[rows]) for rows in (test[::2], test[1::2]))
    return Parity(base, Stream("parity", (task,), "domain"), (old[test], labels[test]), rest, matching)


def _with_bit(images: Tensor, bit: float) -> Tensor:
    return torch.cat([images, torch.full((len(images), 1), bit)], 1)


class Until(Strategy):
    """Ends training with the epoch in which the target accuracy is first reached, and records the state there."""

    def __init__(self, world: Parity, target: float) -> None:
        super().__init__(settings=())
        self.world, self.target = world, target
        self.matched = Matched(world.old_accuracy(world.base), world.new_accuracy(world.base))

    def order(self, learner: Learner, rows: TaskRows, epoch: int) -> Int[Tensor, " m"]:
        order = super().order(learner, rows, epoch)
        return order if self.matched.steps is None else order[:0]

    @torch.no_grad()
    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        if learner.step % CHECK_EVERY or self.matched.steps is not None:
            return
        reached = self.world.new_accuracy(learner.model, self.world.matching)
        old = self.world.old_accuracy(learner.model)
        self.matched.path.append((reached, old))
        if reached >= self.target:
            self.matched.new, self.matched.old = self.world.new_accuracy(learner.model), old
            self.matched.steps = learner.step
            self.matched.divergence = self.world.divergence(learner.model)


def fine_tuned(world: Parity, strategy: Strategy, seed: int, target: float, **training: Any) -> Matched:
    """Train a copy of the base network on parity with a strategy until its accuracy reaches the target."""
    until = Until(world, target)
    learn(copy.deepcopy(world.base), world.stream, Composition([strategy, until], "matched"), seed=seed, **training)
    if isinstance(strategy, RFT):
        until.matched.kept = strategy.shares[0]
    return until.matched


def _share(right: Tensor) -> float:
    return float(right.float().mean())
