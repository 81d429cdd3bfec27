"""GDumb: each task adds to a memory that is balanced over classes; the model learns the memory alone, from the start.

Paper:   Prabhu et al., GDumb, ECCV 2020; in the review of Parisi et al., arXiv 1802.07569, a replay baseline.
Differs: a constant learning rate and no CutMix; classes are balanced by rank within the class (`Memory`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from letheon.core.registry import Checked, method
from letheon.retain.learner import Learner
from letheon.retain.memory import Memory
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity", "epochs")):
    capacity: int = 200
    epochs: int = 30  # over the memory


@method("strategy", "gdumb", Settings, paper="1802.07569")
class GDumb(Strategy):
    keeps: ClassVar[tuple[str, ...]] = ("memory",)
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})
    memory: Memory

    def prepare(self, learner: Learner) -> None:
        self.memory = learner.memory(self.settings.capacity, "class")

    def before_task(self, learner: Learner, task: Task) -> None:
        self.memory.add(learner.train_rows(task))
        learner.reset()

    def rows(self, learner: Learner, task: Task) -> TaskRows:
        return self.memory.rows() or learner.train_rows(task)

    def epochs(self, learner: Learner, task: Task) -> int:
        epochs: int = self.settings.epochs
        return epochs
