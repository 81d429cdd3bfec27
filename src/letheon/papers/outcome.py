"""The input and the output of a reproduction: a `Scale`, and an `Outcome` with a verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from letheon.core.errors import LetheonError

Verdict = Literal["holds", "fails", "inconclusive"]
Side = Literal["above", "below"]


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is.

    Attributes:
        name: "fast" is minutes on two cores, "full" is the size that the paper's page states.
        seeds: one independent repetition each; intervals are over them.
        device: a torch device name.
    """

    name: Literal["fast", "full"] = "fast"
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """A claim and its measurements.

    Attributes:
        key: the paper's key.
        claim: the inequality that was tested, in words.
        baselines: names of what the method was compared with.
        measured: name -> value; a value that could not be computed is None.
        interval: 95 % interval of the quantity that decides, or one per quantity.
        verdict: whether the claim holds at this scale.
        seeds: the seeds that were run.
        seconds: wall-clock time.
        figures: name -> SVG text.
        rows: one dictionary per seed and arm, the values behind the means.
    """

    key: str
    claim: str
    baselines: list[str]
    measured: dict[str, Any]
    interval: list[float] | dict[str, Any]
    verdict: Verdict
    seeds: list[int]
    seconds: float
    figures: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise LetheonError(
                f"paper {self.key!r}: {self.verdict!r} is no verdict",
                f"one of: {', '.join(get_args(Verdict))}",
            )

    def to_json(self) -> dict[str, Any]:
        """The short form that is printed and recorded: without figures and rows, NaN and infinity as None."""
        return {
            "key": self.key,
            "claim": self.claim,
            "baselines": list(self.baselines),
            "measured": json_ready(self.measured),
            "interval": json_ready(self.interval),
            "verdict": self.verdict,
            "seeds": list(self.seeds),
            "seconds": round(float(self.seconds), 3),
        }


def json_ready(value: Any) -> Any:
    """Plain numbers, lists and dictionaries, from numpy and torch as well; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if hasattr(value, "tolist"):
        return json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def readable(value: Any) -> str:
    """A measured value as text: four significant digits, ranges in brackets, `not computed` for None."""
    if value is None:
        return "not computed"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(readable, value)) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{name} {readable(item)}" for name, item in value.items())
    return str(value)


def verdict_from_interval(low: float, high: float, threshold: float, direction: Side) -> Verdict:
    """Judge the claim that a quantity lies above (below) a threshold by its interval [low, high].

    "holds" when the whole interval is strictly on the claimed side, "fails" when it is strictly on the other;
    an interval that contains or touches the threshold, or is not finite, decides nothing.

    Raises:
        LetheonError: `low` exceeds `high`.
    """
    if low > high:
        raise LetheonError(f"interval [{low}, {high}] is upside down", "give the lower end first")
    if not all(map(math.isfinite, (low, high, threshold))):
        return "inconclusive"
    if low > threshold:
        return "holds" if direction == "above" else "fails"
    if high < threshold:
        return "holds" if direction == "below" else "fails"
    return "inconclusive"


def together(verdicts: Mapping[str, Verdict]) -> Verdict:
    """A claim of parts holds only if all of them do, and fails if one of them does."""
    if "fails" in verdicts.values():
        return "fails"
    return "inconclusive" if "inconclusive" in verdicts.values() else "holds"


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that there are; None where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def means(rows: Sequence[Mapping[str, Any]], names: Iterable[str] | None = None) -> dict[str, float]:
    """Mean over rows of each named column; unless they are named, of every column that is a number, but the seed."""
    if names is None:
        names = [name for name, value in rows[0].items() if name != "seed" and isinstance(value, (int, float))]
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


class Judged(NamedTuple):
    """A mean with its interval, and what it says of the claim."""

    value: float | None
    interval: list[float] | None
    verdict: Verdict


def judge_values(values: Sequence[float | None], threshold: float, direction: Side) -> Judged:
    """Judge the claim that a mean over seeds lies above (below) a threshold; seeds without a value are left out."""
    return judge_pairs([0.0] * len(values), values, threshold, direction)


def judge_pairs(
    baseline: Sequence[float | None],
    ours: Sequence[float | None],
    threshold: float,
    direction: Side,
) -> Judged:
    """Judge the claim that ours minus the baseline, paired by seed, lies above (below) a threshold.

    Args:
        baseline, ours: a value a seed, in the same order; a pair without both values is left out.
    """
    from letheon.core.statistics import paired_difference

    pairs = [(a, b) for a, b in zip(baseline, ours, strict=True) if a is not None and b is not None]
    if not pairs:
        return Judged(None, None, "inconclusive")
    found = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    if found.low is None or found.high is None:
        return Judged(found.value, None, "inconclusive")
    verdict = verdict_from_interval(found.low, found.high, threshold, direction)
    return Judged(found.value, [found.low, found.high], verdict)


@dataclass
class Findings:
    """What a run found of its claim.

    Attributes:
        measured: name -> value.
        intervals: name -> 95 % interval.
        parts: a verdict for each part of the claim; all of them together decide.
        beside: verdicts on what is told beside the claim; they decide nothing.
    """

    measured: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Verdict] = field(default_factory=dict)
    beside: dict[str, Verdict] = field(default_factory=dict)

    @classmethod
    def by_arm(
        cls, measured: dict[str, Any], parts: Mapping[str, Judged], beside: Mapping[str, Judged] | None = None
    ) -> Findings:
        """Where values are told arm by arm: differences between arms give intervals and verdicts, and no values."""
        beside = beside or {}
        intervals = {name: one.interval for name, one in {**parts, **beside}.items()}
        return cls(measured, intervals, _verdicts(parts), _verdicts(beside))

    def decide(self, parts: Mapping[str, Judged]) -> None:
        """Add parts of the claim: of each its value, its interval and its verdict."""
        self.tell(parts)
        self.parts |= _verdicts(parts)

    def tell(self, others: Mapping[str, Judged]) -> None:
        """Add what is no part of the claim: values and intervals."""
        self.measured |= {name: one.value for name, one in others.items()}
        self.intervals |= {name: one.interval for name, one in others.items()}

    @property
    def verdict(self) -> Verdict:
        """What the parts say together."""
        return together(self.parts)


def _verdicts(judged: Mapping[str, Judged]) -> dict[str, Verdict]:
    return {name: one.verdict for name, one in judged.items()}


@dataclass
class Claim:
    """A paper's claim while it is measured; the clock runs from the moment that this is made.

    Attributes:
        key: the paper's key.
        text: the inequality that is tested, in words.
        baselines: names of what the method is compared with.
    """

    key: str
    text: str
    baselines: list[str]
    started: float = field(default_factory=time.monotonic)

    def outcome(
        self,
        found: Findings,
        seeds: Sequence[int],
        figures: dict[str, str],
        rows: list[dict[str, Any]],
        verdict: Verdict | None = None,
    ) -> Outcome:
        """What came out; the verdict is that of the parts together unless another rule gave one."""
        told = {"parts": found.parts} | ({"beside the claim": found.beside} if found.beside else {})
        return Outcome(
            key=self.key,
            claim=self.text,
            baselines=list(self.baselines),
            measured=found.measured | told,
            interval=found.intervals,
            verdict=verdict or found.verdict,
            seeds=list(seeds),
            seconds=time.monotonic() - self.started,
            figures=figures,
            rows=rows,
        )
