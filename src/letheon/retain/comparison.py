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
    rows: list[dict[str, Any]]  # per seed the metrics, seconds, steps and all evaluations
    error: str = ""  # the reason why the strategy could not run; then there are no numbers


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
