"""Learning without forgetting (LwF): on new rows the model distils its own outputs from before the task.

Paper:   Li & Hoiem, arXiv 1606.09282, Eqs. 1-3.
Differs: old outputs are computed once, before the task, and looked up. Where the task is known each old task's classes
         are distilled by themselves, as heads; else all classes seen so far together. No warm-up of the new head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.core.training.reinforcement import Anchor
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


def old_classes(learner: Learner) -> list[list[int]]:
    """Return the classes of each distribution that is held to an old one: of every task's head, or of all tasks."""
    seen = learner.stream.tasks[: learner.task]
    if learner.stream.scenario == "task":
        return [list(task.classes) for task in seen]
    return [sorted({one for task in seen for one in task.classes})]


@dataclass(frozen=True)
class Settings(Checked, positive=("strength", "temperature")):
    strength: float = 1.0  # λ_o, Sec. 3
    temperature: float = 2.0  # T, Sec. 3


def distillation(
    logits: Float[Tensor, "n classes"], old: Float[Tensor, "n classes"], temperature: float
) -> Float[Tensor, ""]:
    """-Σ_c y_o'(c) log y'(c), mean over rows, of probabilities softened by 1/T (nats)."""
    target = (old / temperature).softmax(-1)
    return -(target * (logits / temperature).log_softmax(-1)).sum(-1).mean()


@method("strategy", "lwf", Settings, paper="1606.09282")
class LwF(Strategy):
    keeps: ClassVar[tuple[str, ...]] = ("old", "teacher_weights")
    old: Tensor | None  # outputs [rows of the task, classes] before the task
    teacher_weights: dict[str, Tensor]  # weights of a language model before the task; its outputs are too wide to store

    def prepare(self, learner: Learner) -> None:
        self.old, self.teacher_weights = None, {}

    def before_task(self, learner: Learner, task: Task) -> None:
        if learner.task == 0:
            return
        if learner.kind == "texts":
            self.teacher_weights = learner.snapshot()
        else:
            self.old = learner.map_rows(learner.train_rows(task), learner.outputs)

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor | None:
        if learner.task == 0:
            return None
        if learner.kind == "texts":
            return self.settings.strength * self._of_texts(learner, rows, outputs)
        assert self.old is not None
        old, temperature = self.old[rows.index], self.settings.temperature
        losses = [distillation(outputs[:, c], old[:, c], temperature) for c in old_classes(learner)]
        return self.settings.strength * torch.stack(losses).sum()

    def _of_texts(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        with Anchor(learner.parameters, self.teacher_weights).in_place():
            old = learner.forward(rows)
        return distillation(outputs.logits, old.logits, self.settings.temperature)
