"""Dark experience replay (DER, DER++): the memory stores each row's logits, and the model is trained to reproduce them.

Paper:   Buzzega et al., Dark Experience for General Continual Learning, arXiv 2004.07211, Eqs. 3-6.
Differs: the squared distance is a mean over rows and logits, as in the authors' code; both draws go through the model
         with the new rows in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from letheon.core.registry import Checked, method
from letheon.retain.learner import Learner
from letheon.retain.memory import Policy
from letheon.retain.rows import TaskRows, joined
from letheon.retain.strategies.replay import Replaying
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity", "alpha")):
    capacity: int = 200
    alpha: float = 0.1  # weight of the logits' distance; split CIFAR-10, memory 500
    beta: float = 0.5  # weight of the second draw's cross-entropy (DER++); 0 is plain DER
    batch: int = 0
    policy: Policy = "reservoir"
    fill: Literal["step", "task"] = "step"  # store logits as they are when a row arrives, or at the end of its task


def der_loss(logits: Float[Tensor, "n classes"], stored: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    """Mean squared distance of the logits from the stored logits."""
    return functional.mse_loss(logits, stored)


def derpp_loss(
    logits: Float[Tensor, "n classes"],
    stored: Float[Tensor, "n classes"],
    cross_entropy: Float[Tensor, ""] | None,
    alpha: float,
    beta: float,
) -> Float[Tensor, ""]:
    """α · squared distance of the first draw's logits + β · cross-entropy of the second draw (None for plain DER)."""
    distance = alpha * der_loss(logits, stored)
    return distance if cross_entropy is None else distance + beta * cross_entropy


@method("strategy", "der", Settings, paper="2004.07211")
class DER(Replaying):
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})  # logits over a vocabulary need too much space

    def prepare(self, learner: Learner) -> None:
        super().prepare(learner)
        self.first = 0  # rows of the first draw in the step's replay

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> None:
        self.stored = {"logits": outputs.detach()}

    def replay(self, learner: Learner, rows: TaskRows) -> TaskRows | None:
        first = self.draw(rows)
        if first is None:
            return None
        self.first = len(first)
        second = self.draw(rows) if self.settings.beta else None
        return first if second is None else joined([first, second])

    def replay_loss(self, learner: Learner, rows: TaskRows, outputs: torch.Tensor) -> Tensor:
        n, settings = self.first, self.settings
        second = learner.loss(outputs[n:], rows.part(n, len(rows))) if settings.beta else None
        return derpp_loss(outputs[:n], rows.kept["logits"][:n], second, settings.alpha, settings.beta)

    def after_task(self, learner: Learner, task: Task) -> None:
        if self.settings.fill == "task":
            rows = learner.train_rows(task)
            self.memory.add(rows, logits=learner.map_rows(rows, learner.outputs))
