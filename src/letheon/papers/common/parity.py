"""Parity of digits: a new task with many right answers, and an old one that can be lost on the way there.

A network sees 64 pixels and a bit. Bit 0: which digit is it, with the pixels in another order. Bit 1: is it even, where
any class of the right parity is a right answer. The base network knows the first well and the second a little.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
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
from letheon.retain.streams.digits import TEST_SHARE, digits

SIZES = [65, 128, 128, 10]
WARM_UP_ROWS = 350  # rows that the base network learned parity from: about 0.91, as the note's check began
BASE: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 32, "epochs": 15}
CHECK_EVERY = 5  # steps between two looks at the new task's accuracy

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Parity:
    """The base network and what it is tested on.

    Attributes:
        base: the network before.
        stream: one task, parity, with targets 0 and 1.
        old, new: test inputs and targets of both tasks: ten classes, and parity.
    """

    base: nn.Module
    stream: Stream
    old: Pair
    new: Pair

    def old_accuracy(self, model: nn.Module) -> float:
        """Share of digits whose class is the first choice."""
        return _share(model(self.old[0]).argmax(1) == self.old[1])

    def new_accuracy(self, model: nn.Module) -> float:
        """Share of digits for which the first choice has the right parity."""
        return _share(model(self.new[0]).argmax(1) % 2 == self.new[1])

    @torch.no_grad()
    def divergence(self, model: nn.Module) -> float:
        """Mean KL(model || base) on the new task's test rows, nats."""
        now, before = (one(self.new[0]).log_softmax(-1) for one in (model, self.base))
        return float((now.exp() * (now - before)).sum(-1).mean())


@dataclass
class Matched:
    """One arm where it first met the new task's accuracy; None where it never did.

    Attributes:
        old, new: accuracies.
        divergence: KL from the base network on the new task, nats.
        steps: how many were taken.
        kept: share of rows that the strategy trained on.
        path: new and old accuracy on the way.
    """

    base_old: float
    base_new: float
    old: float | None = None
    new: float | None = None
    divergence: float | None = None
    steps: int | None = None
    kept: float = 1.0
    path: list[tuple[float, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        return asdict(self)


def right_parity(drawn: Int[Tensor, "n group"], rows: TaskRows) -> Float[Tensor, "n group"]:
    """1 where a class of the right parity was drawn."""
    return (drawn % 2 == rows.targets[:, None]).float()


def make_parity(seed: int) -> Parity:
    """Rows, and the base network that is trained on the old task and on a few rows of the new one.

    For the warm-up a class of the right parity is drawn for each row, so that the network prefers none of them.
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
    return Parity(base, Stream("parity", (task,), "domain"), (old[test], labels[test]), (new[test], even_or_odd[test]))


def _with_bit(images: Tensor, bit: float) -> Tensor:
    return torch.cat([images, torch.full((len(images), 1), bit)], 1)


class Until(Strategy):
    """Ends a task with the epoch in which the new task's accuracy is first met, and notes how things stood there."""

    def __init__(self, world: Parity, target: float) -> None:
        super().__init__(settings=())
        self.world, self.target = world, target
        self.found = Matched(world.old_accuracy(world.base), world.new_accuracy(world.base))

    def order(self, learner: Learner, rows: TaskRows, epoch: int) -> Int[Tensor, " m"]:
        order = super().order(learner, rows, epoch)
        return order if self.found.steps is None else order[:0]

    @torch.no_grad()
    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        if learner.step % CHECK_EVERY or self.found.steps is not None:
            return
        new, old = self.world.new_accuracy(learner.model), self.world.old_accuracy(learner.model)
        self.found.path.append((new, old))
        if new >= self.target:
            self.found.new, self.found.old, self.found.steps = new, old, learner.step
            self.found.divergence = self.world.divergence(learner.model)


def fine_tuned(world: Parity, strategy: Strategy, seed: int, target: float, **training: Any) -> Matched:
    """A copy of the base network learns parity with a strategy until its accuracy meets the target."""

    until = Until(world, target)
    learn(copy.deepcopy(world.base), world.stream, Composition([strategy, until], "matched"), seed=seed, **training)
    if isinstance(strategy, RFT):
        until.found.kept = strategy.shares[0]
    return until.found


def _share(right: Tensor) -> float:
    return float(right.float().mean())
