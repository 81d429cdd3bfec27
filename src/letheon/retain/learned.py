"""The result of learning a stream."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from letheon.retain.metrics import Curve, summary
from letheon.retain.settings import LearnSettings


@dataclass
class Learned:
    """The result of learning a stream.

    Attributes:
        model: the trained model, the same object that was given.
        stream, tasks, scenario: name, task names and scenario of the stream.
        strategy: the strategy as text.
        settings: the options of the run.
        curve: every evaluation.
        steps, seconds: optimizer steps, and time without interruptions.
        folder: the run's folder; None where nothing was written.
        learner: the learner at the end, with the strategies' state; it is not written to the folder.
    """

    model: Any
    stream: str
    tasks: list[str]
    scenario: str
    strategy: str
    settings: LearnSettings
    curve: Curve
    steps: int
    seconds: float
    folder: Path | None = None
    learner: Any = field(default=None, repr=False)

    @property
    def matrix(self) -> np.ndarray:
        """R [tasks + 1, tasks]: accuracy, row 0 before the first task, row i after task i."""
        return self.curve.matrix()

    @property
    def metrics(self) -> dict[str, float | None]:
        """Average accuracy, forgetting, transfer and worst cases; see `letheon.retain.metrics`."""
        return summary(self.curve)

    def to_json(self) -> dict[str, Any]:
        """The record of the run, as it is written to `learned.json`."""
        named = ("stream", "tasks", "scenario", "strategy", "steps")
        return {
            **{name: getattr(self, name) for name in named},
            "settings": dataclasses.asdict(self.settings),
            "seconds": round(self.seconds, 3),
            "metrics": self.metrics,
            "curve": self.curve.to_json(),
        }
