"""Separated softmax: new rows compete among the newest task's classes only, old rows among the classes before.

Paper:   Ahn et al., SS-IL: Separated Softmax for Incremental Learning, arXiv 2003.13947, its cross-entropy; in the
         framework of arXiv 2309.04081 it is one of the corrections that UER is compared with.
Differs: the paper's distillation within each task's classes is left out, as in that framework.
Note:    it replaces the softmax of every cross-entropy of a strategy beside it (`replay+separated_softmax`); one whose
         loss is none is refused at its first step. It is a loss: classes are still told by the largest of all logits.
         Where no old row is replayed, old classes' logits are never corrected against new ones.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.registry import NoSettings, method
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy


def separated(
    logits: Float[Tensor, "n classes"],
    old_rows: Bool[Tensor, " n"],
    old: Bool[Tensor, " classes"],
    new: Bool[Tensor, " classes"],
) -> Float[Tensor, "n classes"]:
    """Return logits that are minus infinity for the classes of the other group, and for classes of neither."""
    return logits.masked_fill(~torch.where(old_rows[:, None], old, new), -torch.inf)


@method("strategy", "separated_softmax", NoSettings, paper="2003.13947")
class SeparatedSoftmax(Strategy):
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})

    def prepare(self, learner: Learner) -> None:
        self._groups: tuple[int, Tensor, Tensor] | None = None

    def logits(self, learner: Learner, outputs: Tensor, rows: TaskRows) -> Tensor:
        if self._groups is None or self._groups[0] != learner.task:
            self._groups = (learner.task, *self._old_and_new(learner, outputs))
        _, old, new = self._groups
        return separated(outputs, rows.task < learner.task, old, new)

    def _old_and_new(self, learner: Learner, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return masks [classes] of the classes of earlier tasks and of the present task."""
        tasks = learner.stream.tasks
        groups = [[c for task in tasks[: learner.task] for c in task.classes], tasks[learner.task].classes]
        masks = torch.zeros(2, outputs.shape[1], dtype=torch.bool, device=outputs.device)
        for mask, group in zip(masks, groups, strict=True):
            mask[list(group)] = True
        return masks[0], masks[1]

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        """Refuse a composition whose loss took no cross-entropy."""
        if self._groups is None:
            raise InputError(
                f"{learner.strategy.text}: its loss is no cross-entropy, which separated_softmax could change",
                "leave separated_softmax out",
            )
