"""The range that a criterion accepts, and the tests of whole intervals against such ranges (Holm's procedure)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scipy import stats

from letheon.audit.criteria import Criterion, Limit
from letheon.audit.criterion_values import ARM, ROLE_NAMES, ROUNDING, measured, paired_interval
from letheon.audit.record.evidence import Evidence, Role, Value
from letheon.core.statistics import holm
from letheon.report.numbers import number

# The level of unknown subjects above which it bounds nothing: what strangers are given, everybody is given. Holdout
# rows above it are guessed, or were trained on.
LOOSE = 0.2
LOOSE_WORDS = {
    "control": "the control was loose: unknown subjects give the value {level}",
    "holdout": "the control was loose: holdout rows give {level}",
}
# Metrics between 0 and 1 that a model which never knew has near 0.
PROBABILITIES = {"recall", "probability", "value_probability"}
LEVEL = 0.025  # one-sided, that of a 95 % interval
# Most that a criterion's `errors` grant (nats): broken answers beside very fluent ones widen the interval, and with it
# what would be granted.
MOST_GRANTED = {"fluency": 0.5}
ROLES: dict[str, Role] = {str(role): role for role in ROLE_NAMES}
# Metrics that are measured on holdout rows too, which may stand in for a reference.
ON_HOLDOUT = {
    "recall",
    "rouge_l_recall",
    "probability",
    "value_probability",
    "exact_memorization",
    "extraction_strength",
    "truth_ratio",
}
OR_HOLDOUT = " (holdout rows could serve instead: basis `times holdout` or `plus holdout`)"


@dataclass(frozen=True)
class Accepted:
    """The range of values that a criterion accepts, or the reason why it is unknown.

    Attributes:
        slack: how far beyond the range an interval may reach before it straddles the limit.
        remark: what a reader should know of the limit; empty where there is nothing.
        basis: of the limit that is in force.
    """

    at_least: float | None = None
    at_most: float | None = None
    reason: str = ""
    slack: float = 0.0
    remark: str = ""
    basis: str = "absolute"

    def contains(self, value: float) -> bool:
        """Say whether the value satisfies the criterion."""
        above = self.at_least is None or value >= self.at_least - ROUNDING
        return above and (self.at_most is None or value <= self.at_most + ROUNDING)

    def straddled(self, value: Value) -> bool:
        """Say whether the value's interval lies partly inside and partly outside the range."""
        if value.low is None or value.high is None or self.reason:
            return False
        above = self.at_least is None or value.high >= self.at_least - ROUNDING
        overlaps = above and (self.at_most is None or value.low <= self.at_most + ROUNDING)
        wide = replace(
            self,
            at_least=None if self.at_least is None else self.at_least - self.slack,
            at_most=None if self.at_most is None else self.at_most + self.slack,
        )
        if value.value is not None and not self.contains(value.value):
            wide = self  # outside the range no slack is given
        return overlaps and not (wide.contains(value.low) and wide.contains(value.high))

    def widened(self, criterion: Criterion, paired: Value) -> Accepted:
        """Return the range with the standard errors of the paired difference that the criterion grants.

        Args:
            paired: the value with the interval of its difference from the basis (`paired_interval`).
        """
        if not criterion.errors or paired.value is None or paired.low is None or paired.high is None:
            return self
        granted = criterion.errors * (paired.high - paired.low) / (2 * ARM)
        granted = min(granted, MOST_GRANTED.get(criterion.metric, granted))
        remark = f"{number(granted)} of it for the difference of the rows"
        return replace(
            self,
            at_least=None if self.at_least is None else self.at_least - granted,
            at_most=None if self.at_most is None else self.at_most + granted,
            remark=f"{self.remark}; {remark}" if self.remark else remark,
        )

    def words(self) -> str:
        """Return the range in words: `at most 0.10`, `at least 0.95`, or `0.10 to 0.95`."""
        if self.at_least is None:
            return f"at most {number(self.at_most)}"
        if self.at_most is None:
            return f"at least {number(self.at_least)}"
        return f"{number(self.at_least)} to {number(self.at_most)}"


def accepted(criterion: Criterion, evidence: Evidence) -> Accepted:
    """Return the accepted range, from the criterion's own basis or else from its fallback."""
    reasons: list[str] = []
    remark = ""
    for limit in criterion.limits():
        base = _basis(limit, criterion, evidence)
        if _is_loose(limit, criterion, base):
            remark = remark or LOOSE_WORDS[_source(limit)].format(level=number(base.value))
            base = Value.missing(remark)
        elif limit.if_loose and not remark:
            continue
        if base.value is not None:
            found = _range(limit, criterion.comparison, base.value)
            if not _bounds_nothing(found, criterion):
                return replace(found, slack=criterion.slack, remark=remark, basis=limit.basis)
            base = Value.missing(f"a limit of {number(found.at_most)} ({limit.basis}) bounds nothing")
        reasons.append(base.reason or "")
    return Accepted(reason="; ".join(reasons))


def _source(limit: Limit) -> str:
    """Return the last word of the basis: the model or the rows to which the threshold refers."""
    return limit.basis.rpartition(" ")[2]


def _is_loose(limit: Limit, criterion: Criterion, base: Value) -> bool:
    """Say whether unknown subjects, or holdout rows, are given so much that their level bounds nothing."""
    judged = _source(limit) == "control" or (_source(limit) == "holdout" and _is_probability(criterion))
    return judged and base.value is not None and base.value > LOOSE


def _is_probability(criterion: Criterion) -> bool:
    return criterion.metric in PROBABILITIES and criterion.comparison == "<="


def _bounds_nothing(found: Accepted, criterion: Criterion) -> bool:
    """Say whether every probability satisfies the limit."""
    return _is_probability(criterion) and found.at_most is not None and found.at_most >= 1


def _basis(limit: Limit, criterion: Criterion, evidence: Evidence) -> Value:
    """Return the value to which the threshold refers; 0 for an absolute threshold."""
    source = _source(limit)
    if source == "absolute":
        return Value(value=0.0)
    if source == "holdout":
        holdout = evidence.metric(criterion.metric, "holdout", "after")
        return holdout.value if holdout else Value.missing(f"{criterion.metric} was not measured on holdout rows")
    if source in ROLES:
        value = measured(criterion, ROLES[source], evidence)
        offers = source == "reference" and value.value is None and criterion.metric in ON_HOLDOUT
        return Value.missing(f"{value.reason}{OR_HOLDOUT}") if offers else value
    controls = [evidence.metric("control_probability", criterion.subset, role) for role in ROLES]
    known = [control.value for control in controls if control and control.value.value is not None]
    return known[0] if known else Value.missing("the probability level of unknown subjects was not measured")


def _range(limit: Limit, comparison: str, base: float) -> Accepted:
    """Return the accepted range around a known basis."""
    if limit.basis.startswith("times"):
        low = high = limit.threshold * base
    elif limit.basis == "absolute":
        low = high = limit.threshold
    else:
        low, high = base - limit.threshold, base + limit.threshold
    return Accepted(
        at_least=None if comparison == "<=" else low,
        at_most=None if comparison == ">=" else high,
    )


@dataclass(frozen=True)
class HolmTest:
    """One criterion of the family that intervals decide.

    Attributes:
        p: one-sided p-value of "the criterion is not satisfied".
        level: the level that Holm's procedure leaves it.
        holds: whether the procedure finds it satisfied.
    """

    p: float
    level: float
    holds: bool


def holm_tests(family: list[Criterion], evidence: Evidence) -> list[HolmTest]:
    """Apply Holm's procedure to criteria; a criterion without an interval has p = 1 and counts."""
    values = []
    for one in family:
        limits = accepted(one, evidence)
        values.append(p_value(paired_interval(one, measured(one, "after", evidence), evidence, limits.basis), limits))
    return [HolmTest(p, level, holds) for p, (level, holds) in zip(values, holm(values, LEVEL), strict=True)]


def p_value(value: Value, limits: Accepted) -> float:
    """Return the one-sided p-value of "the criterion is not satisfied", from the value's 95 % interval.

    Each arm of the interval counts as 1.96 standard errors: with the end of the interval on the limit, p is 0.025.
    Between two limits the worse side counts. p is 1 where there is no interval or no limit.
    """
    if value.value is None or value.low is None or value.high is None or value.n < 2 or limits.reason:
        return 1.0
    sides = []
    if limits.at_most is not None:
        sides.append((limits.at_most - value.value, value.high - value.value))
    if limits.at_least is not None:
        sides.append((value.value - limits.at_least, value.value - value.low))
    return max(_tail(inside, arm) for inside, arm in sides)


def _tail(inside: float, arm: float) -> float:
    """Return the probability of a normal deviate beyond a limit `inside` away; `arm` is 1.96 standard errors."""
    if arm <= ROUNDING:
        return 0.0 if inside >= -ROUNDING else 1.0
    return float(stats.norm.sf(stats.norm.isf(LEVEL) * inside / arm))
