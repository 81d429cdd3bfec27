"""Synaptic intelligence (SI): a penalty holds each weight by how much its path lowered the loss of earlier tasks.

Paper:   Zenke et al., Continual Learning Through Synaptic Intelligence, arXiv 1703.04200, Eqs. 3-5.
Differs: none; the path integral uses the optimizer's actual steps and the gradient before this penalty and before
         penalties that stand to its right in a composition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.core.training.gradients import Vector
from letheon.retain.learner import Learner
from letheon.retain.penalty import add_penalty_gradient
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("strength", "damping")):
    strength: float = 0.1  # c; permuted MNIST
    damping: float = 0.1  # ξ; permuted MNIST


def path_step(path: Sequence[Tensor], gradient: Sequence[Tensor], moved: Sequence[Tensor]) -> None:
    """ω += -g Δθ, in place."""
    torch._foreach_addcmul_(list(path), list(gradient), list(moved), value=-1)


def importance_of(path: Tensor, moved: Tensor, damping: float) -> Tensor:
    """relu(ω) / (Δ² + ξ), where Δ is the change from the task's start to its end."""
    return path.clamp(min=0) / (moved.square() + damping)


@method("strategy", "si", Settings, paper="1703.04200")
class SI(Strategy):
    divisible: ClassVar[bool] = True
    of_weights: ClassVar[tuple[str, ...]] = ("importance", "anchor", "path", "before")
    keeps: ClassVar[tuple[str, ...]] = ("importance", "anchor", "path", "before")
    importance: Vector
    anchor: Vector  # θ at the end of the last task
    path: Vector
    before: Vector  # θ before the step

    def prepare(self, learner: Learner) -> None:
        self.importance, self.path = ([torch.zeros_like(weight) for weight in learner.weights] for _ in range(2))
        self.anchor, self.before = (list(learner.snapshot().values()) for _ in range(2))
        self.gradient: Vector = []

    @torch.no_grad()
    def after_backward(self, learner: Learner, rows: TaskRows) -> None:
        gradients = learner.gradients()
        if learner.task == 0:
            self.gradient = gradients
            return
        self.gradient = [gradient.clone() for gradient in gradients]
        add_penalty_gradient(gradients, learner.weights, self.importance, self.anchor, 2 * self.settings.strength)
        learner.set_gradients(gradients)

    @torch.no_grad()
    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        weights: list[Tensor] = list(learner.weights)
        path_step(self.path, self.gradient, torch._foreach_sub(weights, self.before))
        torch._foreach_copy_(self.before, weights)

    @torch.no_grad()
    def after_task(self, learner: Learner, task: Task) -> None:
        weights = list(learner.snapshot().values())
        for total, path, end, start in zip(self.importance, self.path, weights, self.anchor, strict=True):
            total.add_(importance_of(path, end - start, self.settings.damping))
            path.zero_()
        self.anchor = weights
