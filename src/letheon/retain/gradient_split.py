"""The gradient of continual learning in two parts: plasticity (the new rows) and stability (what holds the old).

Paper:   De Lange et al., arXiv 2205.13452, Sec. 5: at a task switch the stability gradient is next to nothing, so the
         first steps are plasticity alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from letheon.core.training.gradients import dot, norm
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.replay import Replaying
from letheon.retain.strategy import Strategy


class Split(NamedTuple):
    """The norms of both gradients and the cosine between them; the cosine is 0 where a norm is 0."""

    step: int
    plasticity: float
    stability: float
    cosine: float


def split_of(step: int, plasticity: Sequence[Tensor], stability: Sequence[Tensor]) -> Split:
    """Return ‖∇L_plast‖, ‖∇L_stab‖ and their cosine."""
    first, second = norm(plasticity), norm(stability)
    both = first * second
    return Split(step, first, second, dot(plasticity, stability) / both if both else 0.0)


class GradientWatch(Strategy):
    """A strategy that records both gradients before each step, the old rows' over the whole memory; it changes nothing.

    It stands beside a replaying strategy: `Composition([Replay(), GradientWatch()], "replay, watched")`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.splits: list[Split] = []

    def before_step(self, learner: Learner, rows: TaskRows) -> None:
        replaying = learner.strategy.find(Replaying)
        old = replaying.memory.rows() if replaying is not None else None
        if old is None:
            return
        gradients = [learner.gradient_of(learner.loss(learner.outputs(part), part)) for part in (rows, old)]
        self.splits.append(split_of(learner.step, *gradients))
