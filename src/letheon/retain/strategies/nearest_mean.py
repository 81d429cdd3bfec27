"""Nearest mean: classes are told by the nearest mean of features, beside any strategy that trains the model.

Paper:   the rule of Rebuffi et al., iCaRL, arXiv 1611.07725, Algorithm 1, without its training; in the framework of
         arXiv 2309.04081 it is one of the corrections that UER is compared with.
Differs: means are of the rows in the memory of a strategy beside it, as the model now is. A class without such a row
         has the mean of the last task that showed it, as the model was at that task's end, so that strategies without a
         memory have means too: no row is stored for them, but they age with the model.
Note:    training does not see it: weights are the same bits with and without it. The loss of evaluations is the
         cross-entropy of minus the squared distances.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.registry import NoSettings, method
from letheon.retain.classes import ClassLearner
from letheon.retain.learner import Learner
from letheon.retain.memory import Memory
from letheon.retain.prototypes import Known, Means, means_of, nearest_mean
from letheon.retain.rows import TaskRows, joined
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


@method("strategy", "nearest_mean", NoSettings, paper="1611.07725")
class NearestMean(Strategy):
    keeps: ClassVar[tuple[str, ...]] = ("means", "known", "ended")
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})
    means: Means  # of the last task that showed each class, as the model was at its end
    known: Known
    ended: int  # tasks whose means are in `means`

    def prepare(self, learner: Learner) -> None:
        """Refuse a strategy whose outputs are not those of the model's head, which features would say nothing of."""
        assert isinstance(learner, ClassLearner)
        if any(part.overrides("outputs") for part in learner.strategy.parts):
            raise InputError(
                f"{learner.strategy.text}: a strategy beside nearest_mean has outputs of its own",
                "leave nearest_mean out",
            )
        self.means = torch.zeros(learner.classes, learner.head.in_features, device=learner.device)
        self.known = torch.zeros(learner.classes, dtype=torch.bool, device=learner.device)
        self.ended = 0
        self._now: tuple[int, Means, Known] | None = None

    def predict(self, learner: Learner, rows: TaskRows) -> Tensor:
        """Return minus the squared distances to the classes' means; the outputs before the first task."""
        assert isinstance(learner, ClassLearner)
        if self._now is None or self._now[0] != learner.step:
            self._now = learner.step, *self._present(learner)
        _, means, known = self._now
        if not bool(known.any()):
            outputs: Tensor = learner.outputs(rows)
            return outputs
        return nearest_mean(learner.features(rows.inputs), means, known)

    def after_task(self, learner: Learner, task: Task) -> None:
        self.means, self.known = self._with_task(learner)
        self.ended, self._now = learner.task + 1, None

    def _present(self, learner: ClassLearner) -> tuple[Means, Known]:
        """Return the means of stored rows, of the rows of a task that is being learned, and of tasks before."""
        running = self.ended <= learner.task < len(learner.stream)
        means = self._with_task(learner) if running else (self.means, self.known)
        memories = [getattr(part, "memory", None) for part in learner.strategy.parts]
        stored = [one.rows() for one in memories if isinstance(one, Memory) and len(one)]
        rows = joined([one for one in stored if one is not None]) if stored else None
        return means if rows is None else _over(means_of(learner, rows), means)

    def _with_task(self, learner: Learner) -> tuple[Means, Known]:
        assert isinstance(learner, ClassLearner)
        rows = learner.strategy.rows(learner, learner.stream.tasks[learner.task])
        return _over(means_of(learner, rows), (self.means, self.known))


def _over(new: tuple[Means, Known], old: tuple[Means, Known]) -> tuple[Means, Known]:
    """Return new means, and old ones of classes that have no new one."""
    return torch.where(new[1][:, None], new[0], old[0]), new[1] | old[1]
