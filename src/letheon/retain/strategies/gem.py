"""Gradient episodic memory (GEM): each step is the nearest one that raises no earlier task's loss on its memory.

Paper:   Lopez-Paz & Ranzato, arXiv 1706.08840, Eqs. 6-11.
Differs: a task's part of the memory, M/T rows as in section 2 of the paper where the number of tasks is known, is a
         uniform sample of the task, not its last rows; the quadratic program is solved exactly, as non-negative least
         squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.core.training.gradients import safe_multipliers
from letheon.core.training.sharding import over_shards
from letheon.retain.learner import Learner
from letheon.retain.memory import Memory
from letheon.retain.row_gradients import flat, group_gradients, unflat
from letheon.retain.rows import TaskRows, joined
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task

EPSILON = 1e-3  # added to the diagonal, as in the authors' code


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity",), not_negative=("margin",)):
    capacity: int = 200  # M, rows for all T tasks of the stream; each task has M/T
    margin: float = 0.5  # γ, the memory strength; 0 is the plain projection


def gem_projection(
    gradient: Float[Tensor, " w"], memories: Float[Tensor, "tasks w"], margin: float = 0.0, epsilon: float = EPSILON
) -> Float[Tensor, " w"]:
    """Return z = Gᵀv + g with v = argmin ½ vᵀ(GGᵀ + εI)v + (Gg)ᵀv over v ≥ γ; g itself where no <g, g_k> < 0."""
    products = over_shards(memories @ gradient)
    if float(products.min()) >= 0:
        return gradient
    gram = over_shards(memories @ memories.T).double().cpu().numpy()
    gram.flat[:: len(gram) + 1] += epsilon
    # v = u + γ with u ≥ 0
    free = safe_multipliers(gram, -(products.double().cpu().numpy() + margin * gram.sum(1)))
    v = torch.from_numpy(free + margin).to(gradient)
    return torch.addmv(gradient, memories.T, v)


@method("strategy", "gem", Settings, paper="1706.08840")
class GEM(Strategy):
    divisible: ClassVar[bool] = True
    of_weights: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ("memory",)
    memory: Memory

    def prepare(self, learner: Learner) -> None:
        self.memory = learner.memory(self.settings.capacity, "task")
        self.share = max(1, self.settings.capacity // len(learner.stream))
        self.groups: tuple[TaskRows, list[int]] | None = None

    def before_task(self, learner: Learner, task: Task) -> None:
        self.groups = None

    def after_backward(self, learner: Learner, rows: TaskRows) -> None:
        if not len(self.memory):
            return
        if self.groups is None:  # during a task the memory does not change
            found = [self.memory.rows(task=number) for number in self.memory.tasks()]
            groups = [one for one in found if one is not None]
            self.groups = joined(groups), [len(group) for group in groups]
        gradient = flat(learner.gradients())
        memories = group_gradients(learner, *self.groups)
        projected = gem_projection(gradient, memories, self.settings.margin)
        if projected is not gradient:
            learner.set_gradients(unflat(projected, learner.weights))

    def after_task(self, learner: Learner, task: Task) -> None:
        rows = learner.train_rows(task)
        drawn = torch.randperm(len(rows), generator=learner.generator)[: self.share]
        self.memory.add(rows.at(drawn.to(learner.device)))
