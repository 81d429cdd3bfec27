"""Read answers: a number on a scale, a letter among options, a word among options. Unreadable answers give None."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from letheon.core.statistics import estimate_mean
from letheon.measure.benchmark import Score

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:[.,]\d+)?(?![\w])")
LEAST_ANSWERS, CONSTANT = 10, 0.99


def number_in(text: str, low: float, high: float) -> float | None:
    """Return the first number of an answer; None if there is none or it lies outside the scale."""
    found = NUMBER.search(text)
    value = float(found.group().replace(",", ".")) if found else None
    return value if value is not None and low <= value <= high else None


def option_in(text: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that stands first in an answer as a whole word, ignoring case; else None.

    Of options that start at the same place the longest counts.
    """
    places = []
    for index, option in enumerate(options):
        found = re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text, re.IGNORECASE)
        if found:
            places.append((found.start(), -len(option), index))
    return min(places)[2] if places else None


def unparsed_score(records: Sequence[Mapping[str, Any]], name: str = "unparsed") -> Score:
    """Return the share of answers that could not be read, with Wilson's interval."""
    failed = {str(record["id"]): float(record["parsed"] is None) for record in records}
    return Score(name, estimate_mean(list(failed.values()), share=True), "lower", failed)


def degenerate(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a remark per part of the measure in which (nearly) all answers are the same.

    Parts with fewer than ten readable answers are not judged alone; if all are that small, they are judged together.
    """
    parts: dict[str, list[Any]] = {}
    for record in records:
        if record["parsed"] is not None:
            parts.setdefault(str(record.get("part", "")), []).append(record["parsed"])
    if parts and max(map(len, parts.values())) < LEAST_ANSWERS:
        parts = {"": [value for values in parts.values() for value in values]}
    notes = []
    for part, values in parts.items():
        commonest, count = Counter(map(str, values)).most_common(1)[0]
        if len(values) >= LEAST_ANSWERS and count / len(values) >= CONSTANT:
            where = f"{part}: " if part else ""
            notes.append(f"{where}degenerate: {count} of {len(values)} answers are {commonest!r}")
    return notes
