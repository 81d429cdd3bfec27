"""The page of recorded results: its tables come from `results.json`, its sentences from `readings.toml`.

A sentence names a figure by its place in the record, `{recall there / ours}`; a figure that no record carries cannot be
written.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from letheon.core.errors import LetheonError
from letheon.papers.catalogue import is_current, paper, papers, read_results, rule_of
from letheon.papers.outcome import OLD_RULE

NO_THRESHOLD = "threshold not stored; record again"
OTHER_CLAIM = "Measured before the claim had its present form, which is to be recorded again."
READINGS = Path(__file__).parent / "readings.toml"


class Reading(NamedTuple):
    """What the authors of this library read in a record.

    Attributes:
        room: heading that the paper stands under.
        text: a sentence or two; figures are names of values in the record, in braces.
        instead: what to use where the claim fails; empty otherwise.
    """

    room: str
    text: str
    instead: str = ""


def read_readings() -> dict[str, Reading]:
    """The hand-written readings by the paper's key."""
    return {key: Reading(**one) for key, one in tomllib.loads(READINGS.read_text(encoding="utf-8")).items()}


def results_markdown() -> str:
    """The tables of `docs/results/papers.md` with the readings between them, grouped by room."""
    results, readings = read_results(), read_readings()
    rooms = dict.fromkeys(reading.room for reading in readings.values())
    lines: list[str] = []
    for room in rooms:
        keys = [entry.key for entry in papers() if entry.key in results and readings[entry.key].room == room]
        lines += [f"## {room}", "", "| key | verdict | primary parts that hold | seeds | minutes |"]
        lines += ["| --- | --- | --- | --- | --- |", *(_line(key, results[key]) for key in keys), ""]
        for key in keys:
            lines += [*_section(key, results[key], readings[key]), ""]
    return "\n".join(lines).rstrip()


def _line(key: str, result: Mapping[str, Any]) -> str:
    verdicts = [part["verdict"] for part in primary(result).values()]
    parts = f"{verdicts.count('holds')} of {len(verdicts)}" if verdicts else "none named"
    star = "" if is_current(result) else "*"
    scale = " (full)" if result.get("scale") == "full" else ""
    minutes = f"{result['seconds'] / 60:.1f}{scale}"
    return f"| [`{key}`](#{key}) | {result['verdict']}{star} | {parts} | {len(result['seeds'])} | {minutes} |"


def _section(key: str, result: Mapping[str, Any], reading: Reading) -> list[str]:
    lines = [f"### {key}", "", filled(reading.text, result)]
    if reading.instead:
        lines += ["", f"*Instead:* {filled(reading.instead, result)}"]
    if result["claim"] != paper(key).claim:
        lines += ["", OTHER_CLAIM]
    if rule_of(result) == OLD_RULE:
        return lines
    lines += ["", "| part | claimed | mean | 95 % interval | p | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in part) + " |" for part in parts(result)]
    lines += _table(result["measured"].get("table"))
    broken = [name for name, met in result.get("checks", {}).items() if not met]
    return [*lines, "", f"Not met: {', '.join(broken)}."] if broken else lines


class Part(NamedTuple):
    """One part of a claim as text: its name, what is claimed, the mean, the ends of the interval, p, the verdict."""

    name: str
    claimed: str
    mean: str
    interval: str
    p: str
    verdict: str


def parts(result: Mapping[str, Any]) -> list[Part]:
    """The primary parts of a record, then those beside the claim; what a record does not carry is empty."""
    lines = []
    for kind, some in (("", primary(result)), ("beside: ", result.get("beside", {}))):
        for name, part in some.items():
            ends = result["interval"].get(name) if isinstance(result["interval"], Mapping) else None
            few = len(result["seeds"]) < 2 or part.get("mean", 0) is None
            none = f"none ({'too few' if few else 'equal'} values)" if "p" in part else ""
            interval = f"{short(ends[0])} to {short(ends[1])}" if ends else none
            mean, p = (short(part["mean"]) if "mean" in part else ""), (_p(part["p"]) if "p" in part else "")
            lines.append(Part(f"{kind}{name}", _claimed(part), mean, interval, p, part["verdict"]))
    return lines


def _claimed(part: Mapping[str, Any]) -> str:
    """The claimed side of a part's threshold; a part that recomputes published numbers has none, and p 0."""
    sides = [f"{side} {short(part[side])}" for side in ("above", "below") if side in part]
    return sides[0] if sides else "all equal" if part.get("p") == 0 else NO_THRESHOLD


def _table(table: Mapping[str, Mapping[str, float]] | None) -> list[str]:
    """A record's own table: one line per arm."""
    if not table:
        return []
    columns = list(next(iter(table.values())))
    head = ["", "| | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    return [*head, *(f"| {name} | " + " | ".join(short(row[c]) for c in columns) + " |" for name, row in table.items())]


def primary(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The primary parts of a record; those of an earlier rule have a verdict alone."""
    if "primary" in result:
        return dict(result["primary"])
    return {name: {"verdict": verdict} for name, verdict in result["measured"].get("parts", {}).items()}


def filled(text: str, result: Mapping[str, Any]) -> str:
    """A sentence with the record's figures in the places that it names.

    Raises:
        LetheonError: the record has no value of that name.
    """
    return re.sub(r"\{([^{}]+)\}", lambda match: short(value_of(match[1], result)), text)


def value_of(name: str, result: Mapping[str, Any]) -> Any:
    """A value by its place: `part`, or `measurement / arm / ...`.

    Raises:
        LetheonError: the record has no value of that name.
    """
    means = {part: one["mean"] for kind in ("primary", "beside") for part, one in result.get(kind, {}).items()}
    value: Any = {**means, **result["measured"]}
    for step in name.split(" / "):
        if not isinstance(value, Mapping) or step not in value:
            raise LetheonError(f"the record of {result['key']!r} has no value {name!r}", "name one that it has")
        value = value[step]
    return value


def short(value: Any) -> str:
    """A figure with two digits behind the point, or with two significant ones where it is small."""
    if value is None:
        return "none"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"
    return re.sub(r"^(-?)0\.", r"\1.", text)


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
