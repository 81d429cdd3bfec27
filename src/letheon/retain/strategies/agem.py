"""Averaged GEM (A-GEM): the step does not raise the mean loss of a random draw from the memory.

Paper:   Chaudhry et al., Efficient Lifelong Learning with A-GEM, arXiv 1812.00420, Eq. 11.
Differs: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.core.training.sharding import over_shards
from letheon.retain.learner import Learner
from letheon.retain.memory import Policy
from letheon.retain.row_gradients import flat, unflat
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.replay import Replaying


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity",)):
    capacity: int = 200
    batch: int = 0  # rows per draw; 0: as many as new rows
    policy: Policy = "task"  # equally many rows per task
    fill: Literal["step", "task"] = "task"


def agem_projection(gradient: Float[Tensor, " w"], reference: Float[Tensor, " w"]) -> Float[Tensor, " w"]:
    """g - (g·r / r·r) r where g·r < 0, else g."""
    product = over_shards(torch.dot(gradient, reference))
    if float(product) >= 0:
        return gradient
    return gradient - (product / over_shards(torch.dot(reference, reference))) * reference


@method("strategy", "agem", Settings, paper="1812.00420")
class AGEM(Replaying):
    divisible: ClassVar[bool] = True
    of_weights: ClassVar[tuple[str, ...]] = ()

    def after_backward(self, learner: Learner, rows: TaskRows) -> None:
        old = self.draw(rows)
        if old is None:
            return
        gradient = flat(learner.gradients())
        reference = flat(learner.gradient_of(learner.loss(learner.outputs(old), old)))
        projected = agem_projection(gradient, reference)
        if projected is not gradient:
            learner.set_gradients(unflat(projected, learner.weights))
