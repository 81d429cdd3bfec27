"""The findings of a reproduction: values, intervals over seeds, and a verdict for each part of the claim.

The rule (`letheon.papers.outcome.RULE`):

- A part holds if the 95 % Student-t interval of its mean over seeds lies on the claimed side of the threshold, fails if
  it lies on the other side, and is undecided otherwise. Differences are paired by seed. Fewer than three seeds decide
  nothing. Equal values (up to rounding) have no interval and decide nothing, unless the claim declares the quantity
  deterministic: it is then compared with the threshold as it is.
- A claim holds if all its primary parts hold. The chance of a false "holds" is at most that of one part, 0.025, because
  every part has to pass (an intersection-union test): no correction is needed.
- A claim fails if a part fails that Holm's procedure rejects at 0.05 over all primary parts, two-sided. Without it, ten
  true parts would let a claim fail falsely in more than a fifth of the runs.
- A part that recomputes published numbers holds if all of them are equal, and fails otherwise.
- Everything else is inconclusive, also if a check is not met.

Simulated (`tests/papers/test_judging.py`) with 1 to 10 parts whose means are the thresholds: coverage 0.95 and false
verdicts at most 0.03 for normal values. Skewed values stay below 0.06 where they are differences or the parts' tails
point both ways; if all parts are skewed to the claimed side (skewness 1), up to 0.10 of true claims fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from letheon.core.errors import LetheonError
from letheon.core.statistics import holm, mean_test, rounding_of
from letheon.papers.outcome import MODEL, Outcome, Scale, Verdict

Values = Sequence[float | None]
LEVEL = 0.05
FEWEST = 3  # seeds that can decide


class Threshold(TypedDict, total=False):
    """A threshold as data: `Threshold(above=0.5)`, to be given as `**threshold`."""

    above: float
    below: float


class Pairs(NamedTuple):
    """Values of a baseline and of the method, one per seed and in the same order."""

    baseline: Values
    ours: Values


@dataclass(frozen=True)
class Columns:
    """The columns of rows that hold every arm's values under names of their own, one row per seed."""

    rows: Sequence[Mapping[str, Any]]

    def __call__(self, name: str) -> list[Any]:
        """One value per seed."""
        return [row[name] for row in self.rows]

    def pairs(self, ours: str, baseline: str) -> Pairs:
        """The values of two columns, paired by seed."""
        return Pairs(self(baseline), self(ours))


class Judged(NamedTuple):
    """A mean over seeds: value, 95 % interval, verdict on a part of the claim, p-value, number of seeds."""

    value: float | None
    interval: list[float] | None
    verdict: Verdict
    p: float = 1.0
    n: int = 0


def judge(
    sample: Values | Pairs, *, above: float | None = None, below: float | None = None, deterministic: bool = False
) -> Judged:
    """Judge whether a mean over seeds, or the mean of ours minus the baseline, lies above (below) a threshold.

    A seed without a value (or without one of the two) is left out.

    Args:
        deterministic: equal values are compared with the threshold as they are, because no seed can change them.

    Raises:
        LetheonError: both thresholds are given, or none.
    """
    if (above is None) == (below is None):
        raise LetheonError(f"above={above} and below={below} were given", "give one of the two thresholds")
    baseline, ours = sample if isinstance(sample, Pairs) else ([0.0] * len(sample), sample)
    threshold = above if above is not None else float(below or 0.0)
    known = [(a, b) for a, b in zip(baseline, ours, strict=True) if a is not None and b is not None]
    size = max((abs(one) for pair in known for one in pair), default=0.0)
    test = mean_test([b - a for a, b in known], threshold, size=size)
    if deterministic and test.value is not None and test.n >= FEWEST and test.low is None:
        return _compared(test.value, threshold, rounding_of([size, threshold]), above is not None, test.n)
    interval = None if test.low is None or test.high is None else [test.low, test.high]
    if test.value is None or test.n < FEWEST or not test.p <= LEVEL:
        return Judged(test.value, interval, "inconclusive", test.p if test.n >= FEWEST else 1.0, test.n)
    claimed = test.value > threshold if above is not None else test.value < threshold
    return Judged(test.value, interval, "holds" if claimed else "fails", test.p, test.n)


def _compared(value: float, threshold: float, rounding: float, above: bool, n: int) -> Judged:
    """Compare a value without chance in it with its threshold; on the threshold it is undecided."""
    margin = value - threshold if above else threshold - value
    if abs(margin) <= rounding:
        return Judged(value, None, "inconclusive", 1.0, n)
    return Judged(value, None, "holds" if margin > 0 else "fails", 0.0, n)


def together(verdicts: Mapping[str, Verdict], p_values: Mapping[str, float]) -> Verdict:
    """The verdict on a claim of parts: all must hold; one that fails by Holm's procedure over the parts decides."""
    if verdicts and set(verdicts.values()) == {"holds"}:
        return "holds"
    rejections = holm([p_values[part] for part in verdicts], LEVEL)
    failed = (
        verdict == "fails" and rejected for verdict, (_, rejected) in zip(verdicts.values(), rejections, strict=True)
    )
    return "fails" if any(failed) else "inconclusive"


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
        primary: names of the parts that decide, fixed before the run; None leaves them open.
        baselines: names of the methods that the paper's method is compared with.
        measured: name -> value.
        intervals: name -> 95 % interval over seeds.
        parts: name -> verdict, for each primary part of the claim; together they decide.
        judged: name -> mean, interval, verdict and p-value of every quantity that was judged.
        thresholds: name -> the threshold that it was judged against, on its claimed side.
        checks: name -> whether a condition is met without which the experiment says nothing about the claim.
        beside: name -> verdict on a quantity that is reported and decides nothing.
        figures: name -> SVG text.
        rows: one dictionary per seed and arm, the values behind the means.
        seeds: the seeds of the runs, where they are not the scale's.
    """

    primary: Sequence[str] | None = None
    baselines: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Verdict] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    beside: dict[str, Verdict] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def decide(
        self,
        part: str,
        sample: Values | Pairs,
        *,
        above: float | None = None,
        below: float | None = None,
        value: bool = True,
        gaps: bool = False,
    ) -> None:
        """Add a primary part of the claim: its mean, its interval, and its verdict.

        A seed without a value makes the part inconclusive: what is missing is mostly missing because of the outcome.

        Args:
            part: what is compared, in words.
            sample: one value per seed, or pairs of values.
            above, below: the threshold of the claim, on its claimed side.
            value: also list the mean among the measured values.
            gaps: seeds without a value are left out; the claim is of the others only, and says so.

        Raises:
            LetheonError: the part was not named before the run.
        """
        self._demand_named(part)
        judged = judge(sample, above=above, below=below)
        if judged.n < len(sample.ours if isinstance(sample, Pairs) else sample) and not gaps:
            judged = judged._replace(verdict="inconclusive", p=1.0)
        self._add(part, judged, value, above, below)
        self.parts[part] = judged.verdict

    def decide_without_chance(
        self, part: str, sample: Values | Pairs, *, above: float | None = None, below: float | None = None
    ) -> None:
        """Add a primary part that no seed can change: a count, a computation without chance.

        Equal values are compared with the threshold as they are; values that differ are judged like those of `decide`.

        Raises:
            LetheonError: the part was not named before the run.
        """
        self._demand_named(part)
        judged = judge(sample, above=above, below=below, deterministic=True)
        self._add(part, judged, True, above, below)
        self.parts[part] = judged.verdict

    def recompute(self, part: str, equal: Sequence[bool]) -> None:
        """Add a primary part that recomputes published numbers from published data: it holds if all of them are equal.

        There is no chance in it, so it has no interval, and its p-value is 0.

        Args:
            part: what is recomputed, in words.
            equal: whether each number came out as published.

        Raises:
            LetheonError: the part was not named before the run.
        """
        self._demand_named(part)
        verdict: Verdict = "inconclusive" if not equal else "holds" if all(equal) else "fails"
        share = sum(equal) / len(equal) if equal else None
        self.judged[part] = Judged(share, None, verdict, 0.0 if equal else 1.0, len(equal))
        self.parts[part] = verdict

    def _demand_named(self, part: str) -> None:
        if self.primary is not None and part not in self.primary:
            raise LetheonError(f"part {part!r} was not named before the run", "add it to PRIMARY, or report it instead")

    def check(self, name: str, met: bool) -> None:
        """Add a condition of the experiment (equal sizes, an identity); where it is not met, nothing is decided."""
        self.checks[name] = bool(met)

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
        self._add(name, judged, value, above, below)
        if above is not None or below is not None:
            self.beside[name] = judged.verdict

    def _add(self, name: str, judged: Judged, value: bool, above: float | None, below: float | None) -> None:
        if value:
            self.measured[name] = judged.value
        self.intervals[name] = judged.interval
        self.judged[name] = judged
        if above is not None:
            self.thresholds[name] = Threshold(above=above)
        elif below is not None:
            self.thresholds[name] = Threshold(below=below)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the whole claim; a primary part that was not measured leaves it open."""
        verdicts: dict[str, Verdict] = dict.fromkeys(self.primary or (), "inconclusive")
        p_values = dict.fromkeys(verdicts, 1.0) | {part: self.judged[part].p for part in self.parts}
        verdict = together(verdicts | self.parts, p_values)
        return verdict if all(self.checks.values()) else "inconclusive"

    def outcome(self, key: str, claim: str, scale: Scale, seconds: float) -> Outcome:
        """The outcome to print and record."""

        def told(verdicts: Mapping[str, Verdict]) -> dict[str, dict[str, Any]]:
            numbers = {name: {"mean": one.value, "p": one.p, "n": one.n} for name, one in self.judged.items()}
            return {
                name: {"verdict": verdict, **numbers[name], **self.thresholds.get(name, {})}
                for name, verdict in verdicts.items()
            }

        return Outcome(
            key=key,
            claim=claim,
            baselines=self.baselines,
            measured=self.measured,
            interval=self.intervals,
            verdict=self.verdict,
            seeds=self.seeds or list(scale.seeds),
            seconds=seconds,
            primary=told(self.parts),
            beside=told(self.beside),
            checks=self.checks,
            figures=self.figures,
            rows=self.rows,
            model="" if scale.model == MODEL else scale.model,
        )
