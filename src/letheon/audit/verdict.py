"""From measurements to a verdict, by criteria that were fixed and hashed before the run.

Three rules stand above every profile. Collapse is not forgetting: a profile must demand kept utility, fluent
answers and little damage beside forgetting. An attack needs its positive control: what the model before the
deletion withstands too is uninformative, never passed. A criterion without a value is said to be so, and does
not pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from letheon.audit.criteria import Criterion, CriterionOutcome, Limit, Outcome, Profile, Verdict, load_profile
from letheon.audit.evidence import Attack, Evidence, Role, Value
from letheon.report.numbers import interval, number

__all__ = ["judge", "load_profile"]

MODELS: dict[str, Role] = {"before": "before", "after": "after", "reference": "reference"}
CALLED = {"before": "the model before", "after": "the model after", "reference": "a reference"}
ROUNDING = 1e-9  # 0.95 x 1.0 and 0.95 differ in the last bit
LIMITS = (
    "Unlearning of this kind is approximate: the tests bound what can be drawn out of the model by the means "
    "that were used, and do not show that no trace is left in its weights."
)


def measured(criterion: Criterion, model: Role, evidence: Evidence) -> Value:
    """What the criterion is about, for one model; a `Value` with the reason when it was not measured."""
    kind, _, name = criterion.metric.partition(":")
    found: list[Value | None]
    match kind:
        case "attack":
            found = [_of_attack(attack, model) for attack in evidence.attacks if attack.name == name]
        case "quantised":
            rounded = [q for q in evidence.quantised if q.model == model and str(q.bits) == name]
            found = [q.forget_recall if criterion.subset == "forget" else q.retain_recall for q in rounded]
        case "relearn":
            curves = [curve for curve in evidence.curves if curve.model == model and curve.points]
            found = [Value(value=max(point.recall for point in c.points), n=c.n) for c in curves]
        case _:
            metric = evidence.metric(criterion.metric, criterion.subset, model)
            found = [metric.value if metric else None]
    values = [value for value in found if value is not None]
    if not values:
        return Value.missing(f"{criterion.metric} ({criterion.subset}) was not measured for {CALLED[model]}")
    return _worst(values, criterion)


def _of_attack(attack: Attack, model: Role) -> Value | None:
    """An attack's value for one model."""
    by_model: dict[Role, Value | None] = {
        "before": attack.before,
        "after": attack.after,
        "reference": attack.reference,
    }
    return by_model[model]


def _worst(values: list[Value], criterion: Criterion) -> Value:
    """The value furthest on the wrong side; one that is missing weighs most, since it cannot be judged."""
    lost = [value for value in values if value.value is None]
    if lost:
        return lost[0]
    pick = min if criterion.comparison == ">=" else max
    return pick(values, key=lambda value: value.value if value.value is not None else 0.0)


@dataclass(frozen=True)
class Accepted:
    """The range that a criterion accepts, or why it cannot be known."""

    at_least: float | None = None
    at_most: float | None = None
    reason: str = ""

    def contains(self, value: float) -> bool:
        """Whether the value satisfies the criterion."""
        above = self.at_least is None or value >= self.at_least - ROUNDING
        return above and (self.at_most is None or value <= self.at_most + ROUNDING)

    def straddled(self, value: Value) -> bool:
        """Whether the value's interval lies partly inside and partly outside."""
        if value.low is None or value.high is None or self.reason:
            return False
        above = self.at_least is None or value.high >= self.at_least - ROUNDING
        overlaps = above and (self.at_most is None or value.low <= self.at_most + ROUNDING)
        return overlaps and not (self.contains(value.low) and self.contains(value.high))

    def words(self) -> str:
        """`at most 0.10`, `at least 0.95`, or `0.10 to 0.95`."""
        if self.at_least is None:
            return f"at most {number(self.at_most)}"
        if self.at_most is None:
            return f"at least {number(self.at_least)}"
        return f"{number(self.at_least)} to {number(self.at_most)}"


def accepted(criterion: Criterion, evidence: Evidence) -> Accepted:
    """The accepted range, from the criterion's own basis or else from its fallback."""
    reasons = []
    for limit in criterion.limits():
        base = _basis(limit, criterion, evidence)
        if base.value is not None:
            return _range(limit, criterion.comparison, base.value)
        reasons.append(base.reason or "")
    return Accepted(reason="; ".join(reasons))


def _basis(limit: Limit, criterion: Criterion, evidence: Evidence) -> Value:
    """What the threshold refers to; 0 for an absolute one."""
    source = limit.basis.rpartition(" ")[2]
    if source == "absolute":
        return Value(value=0.0)
    if source in MODELS:
        return measured(criterion, MODELS[source], evidence)
    controls = [evidence.metric("control_probability", criterion.subset, role) for role in MODELS]
    known = [control.value for control in controls if control and control.value.value is not None]
    return known[0] if known else Value.missing("the probability level of unknown subjects was not measured")


def _range(limit: Limit, comparison: str, base: float) -> Accepted:
    """The accepted range around a known basis."""
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


def uninformative(criterion: Criterion, evidence: Evidence) -> str:
    """Why this criterion can show nothing about the deletion; empty when it can.

    Recall of the forgotten, by whatever means, says something only if the same means find it in the model
    before. Kept recall says something only if there was some.
    """
    kind, _, name = criterion.metric.partition(":")
    if kind == "attack" and any(a.name == name and not a.informative for a in evidence.attacks):
        return "uninformative: the model before the deletion withstands this attack too"
    before = measured(criterion, "before", evidence)
    needs_control = kind in {"attack", "quantised", "relearn", "recall"} and criterion.subset == "forget"
    if needs_control and before.value is None:
        return f"no positive control: {before.reason}"
    if needs_control and before.value is not None and before.value <= ROUNDING:
        return "uninformative: the model before the deletion does not give the facts here either"
    if criterion.comparison == ">=" and criterion.basis == "times before" and before.value == 0:
        return "uninformative: the model before the deletion had none of it to keep"
    return ""


def judge(profile: Profile, evidence: Evidence) -> Verdict:
    """Hold the evidence against the profile.

    Fail if a required criterion fails; else inconclusive if a required one is undecided, unless the profile
    sets it aside when it cannot be measured; else pass.
    """
    outcomes = [judge_criterion(criterion, profile, evidence) for criterion in profile.criteria]
    required = [found for found in outcomes if found.criterion.required]
    failed = [found for found in required if found.outcome == "fail"]
    aside = [found for found in required if _set_aside(found)]
    undecided = [f for f in required if f.outcome in {"not computable", "inconclusive"} and not _set_aside(f)]
    met = [found for found in required if found.outcome == "pass"]
    return Verdict(
        outcome="fail" if failed else "pass" if met and not undecided else "inconclusive",
        words=_paragraph(met, failed, undecided, aside),
        criteria=outcomes,
        profile=profile.name,
        profile_sha256=profile.sha256,
        fixed_at=profile.fixed_at,
    )


def judge_criterion(criterion: Criterion, profile: Profile, evidence: Evidence) -> CriterionOutcome:
    """Decide one criterion."""
    value, limits = measured(criterion, "after", evidence), accepted(criterion, evidence)

    straddles = value.n >= 2 and limits.straddled(value)
    objection = "" if value.value is None else uninformative(criterion, evidence)

    def decided(outcome: Outcome, words: str) -> CriterionOutcome:
        return CriterionOutcome(
            criterion=criterion,
            measured=value,
            at_least=limits.at_least,
            at_most=limits.at_most,
            straddles=straddles,
            informative=not objection,
            outcome=outcome,
            words=words,
        )

    if value.value is None:
        return decided("not computable", f"Not computable: {value.reason}.")
    if limits.reason:
        return decided("not computable", f"Measured {number(value.value)}; its limit is unknown: {limits.reason}.")
    within = limits.contains(value.value)
    words = f"Measured {number(value.value)}, {limits.words()} accepted"
    if objection and within:
        return decided("inconclusive", f"{words}; {objection}.")
    if within and (criterion.interval or profile.interval) == "bound":
        if value.low is None or value.high is None or value.n < 2:
            return decided("inconclusive", f"{words}; the interval decides here, and none was measured.")
        if straddles:
            return decided("inconclusive", f"{words}, for the whole interval; {_straddling(value)}.")
    remark = f"; {_straddling(value)}" if straddles else ""
    return decided("pass" if within else "fail", f"{words}{remark}.")


def _straddling(value: Value) -> str:
    """The remark on an interval that lies partly outside the accepted range."""
    return f"the interval {interval(value)} (n {value.n}) straddles the limit, so more rows could change this"


def _set_aside(found: CriterionOutcome) -> bool:
    """Whether the profile lets the verdict do without this criterion."""
    shows_nothing = found.outcome == "not computable" or not found.informative
    return shows_nothing and found.outcome != "fail" and found.criterion.if_missing == "set aside"


def _paragraph(
    met: list[CriterionOutcome],
    failed: list[CriterionOutcome],
    undecided: list[CriterionOutcome],
    aside: list[CriterionOutcome],
) -> str:
    """The verdict in two to four sentences for a reader who is no engineer."""
    total = len(met) + len(failed) + len(undecided)
    sentences = []
    if failed:
        which = "; ".join(f"“{f.criterion.name}” (measured {number(f.measured.value)}, {_limit(f)})" for f in failed)
        sentences.append(f"The deletion does not meet {len(failed)} of {total} required criteria: {which}.")
        sentences.append("By these tests the request has not been carried out as demanded.")
    elif undecided or not met:
        which = "; ".join(f"“{found.criterion.name}”" for found in undecided)
        sentences.append(
            f"No required criterion failed, but {len(undecided)} of {total} could not be decided: {which}."
        )
        sentences.append(
            "The evidence is not enough to say that the request has been carried out, nor that it has not."
        )
    else:
        sentences.append(
            f"All {total} required criteria, fixed before the run, are met: by these tests the model "
            "no longer gives what it was asked to forget, and what it should keep is kept."
        )
    straddling = sum(found.straddles for found in met)
    if straddling and not failed and not undecided:
        sentences.append(
            f"In {straddling} of them the interval straddles the limit: more rows could change the outcome."
        )
    if aside:
        names = "; ".join(f"“{found.criterion.name}”" for found in aside)
        sentences.append(f"Set aside, as the profile allows for a test that was not run or shows nothing: {names}.")
    return " ".join([*sentences, LIMITS])


def _limit(found: CriterionOutcome) -> str:
    """The accepted range of an outcome in words."""
    return f"{Accepted(found.at_least, found.at_most).words()} accepted"
