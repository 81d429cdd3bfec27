"""The result of comparing strategies on one stream."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from letheon.core.statistics import Estimate
from letheon.retain.settings import LearnSettings


@dataclass(frozen=True)
class Entry:
    """One strategy's results.

    Attributes:
        strategy: as text.
        metrics: each metric's mean over seeds with its 95 % interval.
        rows: of each seed its metrics, seconds, steps and every evaluation.
        error: why it did not run; then there are no numbers.
    """

    strategy: str
    metrics: dict[str, Estimate]
    rows: list[dict[str, Any]]
    error: str = ""


@dataclass(frozen=True)
class StrategyComparison:
    """Several strategies on one stream."""

    stream: str
    scenario: str
    model: str
    seeds: list[int]
    settings: LearnSettings
    entries: list[Entry]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        return dataclasses.asdict(self)
