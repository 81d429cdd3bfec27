"""The findings of a reproduction: values, intervals over seeds, and a verdict for each part of the claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from letheon.core.errors import LetheonError
from letheon.core.statistics import paired_difference
from letheon.papers.outcome import Outcome, Scale, Verdict, together, verdict_from_interval

Values = Sequence[float | None]


class Threshold(TypedDict, total=False):
    """A threshold as data: `Threshold(above=0.5)`, to be given as `**threshold`."""

    above: float
    below: float


class Pairs(NamedTuple):
    """Values of a baseline and of the method, one per seed and in the same order."""

    baseline: Values
    ours: Values


class Judged(NamedTuple):
    """A mean over seeds, its 95 % interval, and its verdict on a part of the claim."""

    value: float | None
    interval: list[float] | None
    verdict: Verdict


def judge(sample: Values | Pairs, *, above: float | None = None, below: float | None = None) -> Judged:
    """Judge whether a mean over seeds, or the mean of ours minus the baseline, lies above (below) a threshold.

    A seed without a value (or without one of the two) is left out. Fewer than two seeds decide nothing.

    Raises:
        LetheonError: both thresholds are given, or none.
    """
    if (above is None) == (below is None):
        raise LetheonError(f"above={above} and below={below} were given", "give one of the two thresholds")
    baseline, ours = sample if isinstance(sample, Pairs) else ([0.0] * len(sample), sample)
    pairs = [(a, b) for a, b in zip(baseline, ours, strict=True) if a is not None and b is not None]
    if not pairs:
        return Judged(None, None, "inconclusive")
    difference = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    if difference.low is None or difference.high is None:
        return Judged(difference.value, None, "inconclusive")
    threshold = above if above is not None else float(below or 0.0)
    verdict = verdict_from_interval(
        difference.low, difference.high, threshold, "above" if above is not None else "below"
    )
    return Judged(difference.value, [difference.low, difference.high], verdict)


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def means(rows: Sequence[Mapping[str, Any]], names: Iterable[str] | None = None) -> dict[str, float]:
    """Mean over rows of each named column; by default of every column of numbers except `seed`."""
    if names is None:
        names = [name for name, value in rows[0].items() if name != "seed" and isinstance(value, (int, float))]
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


@dataclass
class Findings:
    """The results of one reproduction, filled in by `reproduce(scale, found)`.

    Attributes:
        baselines: names of the methods that the paper's method is compared with.
        measured: name -> value.
        intervals: name -> 95 % interval over seeds.
        parts: name -> verdict, for each part of the claim; all parts together decide.
        beside: name -> verdict on a quantity that is reported and decides nothing.
        figures: name -> SVG text.
        rows: one dictionary per seed and arm, the values behind the means.
        ruled: a verdict by another rule than all parts together.
        seeds: the seeds of the runs, where they are not the scale's.
    """

    baselines: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Verdict] = field(default_factory=dict)
    beside: dict[str, Verdict] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    ruled: Verdict | None = None
    seeds: list[int] = field(default_factory=list)

    def decide(
        self,
        part: str,
        sample: Values | Pairs,
        *,
        above: float | None = None,
        below: float | None = None,
        value: bool = True,
    ) -> None:
        """Add a part of the claim: its mean, its interval, and its verdict.

        Args:
            part: what is compared, in words.
            sample: one value per seed, or pairs of values.
            above, below: the threshold of the claim, on its claimed side.
            value: also list the mean among the measured values.
        """
        judged = judge(sample, above=above, below=below)
        self._add(part, judged, value)
        self.parts[part] = judged.verdict

    def report(
        self,
        name: str,
        sample: Values | Pairs,
        *,
        above: float | None = None,
        below: float | None = None,
        value: bool = True,
    ) -> None:
        """Add a mean and its interval that decide nothing; with a threshold also its verdict, beside the claim."""
        judged = judge(sample, above=0.0 if above is None and below is None else above, below=below)
        self._add(name, judged, value)
        if above is not None or below is not None:
            self.beside[name] = judged.verdict

    def _add(self, name: str, judged: Judged, value: bool) -> None:
        if value:
            self.measured[name] = judged.value
        self.intervals[name] = judged.interval

    @property
    def verdict(self) -> Verdict:
        """The verdict on the whole claim."""
        return self.ruled or together(self.parts)

    def outcome(self, key: str, claim: str, scale: Scale, seconds: float) -> Outcome:
        """The outcome to print and record; the parts and their verdicts are the last of the measured values."""
        verdicts = {"parts": self.parts} if self.parts else {}
        beside = {"beside the claim": self.beside} if self.beside else {}
        return Outcome(
            key=key,
            claim=claim,
            baselines=self.baselines,
            measured=self.measured | verdicts | beside,
            interval=self.intervals,
            verdict=self.verdict,
            seeds=self.seeds or list(scale.seeds),
            seconds=seconds,
            figures=self.figures,
            rows=self.rows,
        )
