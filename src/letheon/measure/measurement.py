"""A measurement: the scores of one model under one measure, with everything that decides them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from letheon.core.runs import versions
from letheon.measure.benchmark import Scores


@dataclass(frozen=True)
class Measurement:
    """The scores of one model under one measure.

    Attributes:
        measure, model: their names.
        columns: scores of the printed table.
        config: what decides the numbers: the measure's data, prompts and options, and how the model answers.
        scores: the numbers, the records of all items, the remarks.
    """

    measure: str
    model: str
    columns: tuple[str, ...]
    config: Mapping[str, Any]
    scores: Scores
    seconds: float
    date: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data without the records, which stand in items.jsonl."""
        return {"format": 1, **asdict(replace(self, scores=replace(self.scores, records=()))), "versions": versions()}
