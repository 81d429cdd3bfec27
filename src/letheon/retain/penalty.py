"""The quadratic penalty of EWC, MAS and SI: c/2 · Σ A (θ - θ*)², with one importance A per weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from letheon.core.training.gradients import Vector
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


def add_penalty_gradient(
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor],
    importance: Sequence[Tensor],
    anchor: Sequence[Tensor],
    strength: float,
) -> None:
    """Add c A (θ - θ*), the gradient of c/2 · Σ A (θ - θ*)², to the gradients in place."""
    distance = torch._foreach_sub(list(weights), list(anchor))
    torch._foreach_addcmul_(list(gradients), list(importance), list(distance), value=strength)


class Anchored(Strategy):
    """The base of strategies that hold each weight by the importance that they estimate at a task's end.

    Attributes:
        importance, anchor: A and θ*, one tensor per weight; None in the first task.
        settings: options with `samples`, the rows of an estimate (0 takes all).
    """

    divisible: ClassVar[bool] = True
    of_weights: ClassVar[tuple[str, ...]] = ("importance", "anchor")
    keeps: ClassVar[tuple[str, ...]] = ("importance", "anchor")
    importance: Vector | None
    anchor: Vector | None

    @property
    def strength(self) -> float:
        """The factor c of c/2 · Σ A (θ - θ*)²."""
        raise NotImplementedError

    def prepare(self, learner: Learner) -> None:
        self.importance = self.anchor = None

    @torch.no_grad()
    def after_backward(self, learner: Learner, rows: TaskRows) -> None:
        if self.importance is None or self.anchor is None:
            return
        gradients = learner.gradients()
        add_penalty_gradient(gradients, learner.weights, self.importance, self.anchor, self.strength)
        learner.set_gradients(gradients)

    def estimated_on(self, learner: Learner, task: Task) -> TaskRows:
        """Draw the rows on which a task's importances are estimated."""
        rows = learner.train_rows(task)
        return rows.sample(self.settings.samples or len(rows), learner.generator)
