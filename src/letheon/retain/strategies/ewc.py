"""Elastic weight consolidation (EWC), also online: a penalty holds each weight in place by its Fisher information.

Paper:   Kirkpatrick et al., arXiv 1612.00796, Eq. 3; online: Schwarz et al., arXiv 1805.06370, Sec. 3.2.
Differs: the tasks' quadratic penalties are stored as their sum, which is one quadratic: Σ F_k (θ - θ_k)² = A (θ - c)²
         + constant; its gradient is added after the backward pass. With an adapter only the adapter is penalised. Texts
         use the empirical Fisher information, whatever `fisher` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.core.training.gradients import Vector
from letheon.retain.learner import Learner
from letheon.retain.penalty import Anchored
from letheon.retain.row_gradients import Fisher, diagonal_fisher
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("strength",), not_negative=("samples",), shares=("decay",)):
    strength: float = 10.0  # λ; tuned per data set in every paper. Larger values need a lower learning rate or clipping
    online: bool = False  # one anchor, with the importances added up
    decay: float = 1.0  # γ of the online form
    fisher: Fisher = "true"  # texts: empirical
    samples: int = 256  # rows for the estimate of the Fisher information; 0 takes all


def sum_of_quadratics(
    importance: Sequence[Tensor], anchor: Sequence[Tensor], fisher: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Vector, Vector]:
    """Return A and c of A₀(θ - c₀)² + F(θ - θ*)² up to a constant; c is θ* where both A₀ and F are 0."""
    total = [a + f for a, f in zip(importance, fisher, strict=True)]
    centre = [
        torch.where(t > 0, (a * c + f * w) / t.clamp(min=torch.finfo(t.dtype).tiny), w)
        for a, c, f, w, t in zip(importance, anchor, fisher, weights, total, strict=True)
    ]
    return total, centre


@method("strategy", "ewc", Settings, paper="1612.00796")
class EWC(Anchored):
    @property
    def strength(self) -> float:
        strength: float = self.settings.strength
        return strength

    def after_task(self, learner: Learner, task: Task) -> None:
        fisher = diagonal_fisher(learner, self.estimated_on(learner, task), self.settings.fisher)
        weights = list(learner.snapshot().values())
        if self.importance is None or self.anchor is None:
            self.importance, self.anchor = fisher, weights
        elif self.settings.online:
            self.importance = [self.settings.decay * a + f for a, f in zip(self.importance, fisher, strict=True)]
            self.anchor = weights
        else:
            self.importance, self.anchor = sum_of_quadratics(self.importance, self.anchor, fisher, weights)
