"""Replay (ER): every step also learns old rows, as many as new rows, drawn at random from a small memory.

Paper:   experience replay in the form of Chaudhry et al., On Tiny Episodic Memories, arXiv 1902.10486; reservoir
         sampling after Vitter 1985. Listed in the review of Parisi et al., arXiv 1802.07569.
Differs: new and old rows go through the model in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.retain.learner import Learner
from letheon.retain.memory import Memory, Policy
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity", "weight")):
    capacity: int = 200  # rows in the memory
    batch: int = 0  # old rows per step; 0: as many as new rows (ER)
    policy: Policy = "reservoir"  # ER's; class and task balance the memory
    fill: Literal["step", "task"] = "step"  # after each step (online), or after each task
    weight: float = 1.0  # weight of the old rows' loss; ER: 1


class Replaying(Strategy):
    """The base of strategies with a memory: it offers every row to the memory once, and draws from it.

    Attributes:
        settings: options with `capacity`, `batch`, `policy` and `fill`.
    """

    keeps: ClassVar[tuple[str, ...]] = ("memory",)
    memory: Memory

    def prepare(self, learner: Learner) -> None:
        self.memory = learner.memory(self.settings.capacity, self.settings.policy)
        self.stored: dict[str, Tensor] = {}  # tensors of the step's new rows that the memory stores beside them

    def draw(self, rows: TaskRows) -> TaskRows | None:
        """Draw old rows for a step; None while the memory is empty."""
        return self.memory.sample(self.settings.batch or len(rows))

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        if self.settings.fill == "step" and learner.epoch == 0:  # later epochs show the same rows again
            self.memory.add(rows, **self.stored)

    def after_task(self, learner: Learner, task: Task) -> None:
        if self.settings.fill == "task":
            self.memory.add(learner.train_rows(task))


@method("strategy", "replay", Settings, paper="1902.10486")
class Replay(Replaying):
    divisible: ClassVar[bool] = True
    of_weights: ClassVar[tuple[str, ...]] = ()

    def replay(self, learner: Learner, rows: TaskRows) -> TaskRows | None:
        return self.draw(rows)

    def replay_loss(self, learner: Learner, rows: TaskRows, outputs: torch.Tensor) -> Tensor:
        loss: Tensor = learner.loss(outputs, rows)
        return loss if self.settings.weight == 1.0 else self.settings.weight * loss
