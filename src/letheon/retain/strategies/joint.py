"""Joint: the model learns all tasks so far together, from the first weights; the upper bound of every comparison.

Paper:   the offline baseline of every comparison; arXiv 1802.07569.
Differs: none.
"""

from __future__ import annotations

from typing import ClassVar

from letheon.core.registry import method
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows, joined
from letheon.retain.strategy import NoSettings, Strategy
from letheon.retain.stream import Task


@method("strategy", "joint", NoSettings, paper="1802.07569")
class Joint(Strategy):
    divisible: ClassVar[bool] = True
    of_weights: ClassVar[tuple[str, ...]] = ()

    def before_task(self, learner: Learner, task: Task) -> None:
        learner.reset()

    def rows(self, learner: Learner, task: Task) -> TaskRows:
        return joined([learner.train_rows(one) for one in learner.stream.tasks[: learner.task + 1]])

    def held(self, learner: Learner) -> dict[str, int]:
        """Return the bytes of all tasks' rows, to which every task goes back."""
        rows = [learner.train_rows(task) for task in learner.stream]
        return {"rows": sum(tensor.nbytes for part in rows for tensor in part.tensors().values())}
