"""The result of comparing strategies on one stream."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from letheon.core.statistics import Estimate
from letheon.retain.settings import LearnSettings


@dataclass(frozen=True)
class Entry:
    """The results of one strategy."""

    strategy: str  # the strategy as text
    metrics: dict[str, Estimate]  # per metric the mean over seeds with its 95 % interval
    rows: list[dict[str, Any]]  # per seed the metrics, seconds, steps, parameters, bytes held, and all evaluations
    error: str = ""  # the reason why the strategy could not run; then there are no numbers

    @property
    def seconds(self) -> float:
        """Seconds of a run, mean over seeds."""
        return sum(row["seconds"] for row in self.rows) / len(self.rows)

    @property
    def parameters(self) -> float | None:
        """Parameters of the model after the last task, mean over seeds; None for runs of an earlier version."""
        return self._mean_of([row.get("parameters") for row in self.rows])

    @property
    def held_bytes(self) -> float | None:
        """Bytes that the strategy holds beside the model after the last task, mean over seeds; None as above."""
        return self._mean_of([sum(row["held_bytes"].values()) if "held_bytes" in row else None for row in self.rows])

    @staticmethod
    def _mean_of(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class StrategyComparison:
    """The results of several strategies on one stream."""

    stream: str
    scenario: str
    model: str
    seeds: list[int]
    settings: LearnSettings
    entries: list[Entry]

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain values for JSON."""
        return dataclasses.asdict(self)
