"""From measurements to a verdict, by criteria that were fixed and hashed before the run.

Three rules stand above every profile. Collapse is not forgetting: a profile must demand kept utility, fluent
answers and little damage beside forgetting. An attack needs its positive control: what the model before the
deletion withstands too is uninformative, never passed. A criterion without a value is said to be so, and does
not pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from letheon.audit.criteria import Criterion, CriterionOutcome, Family, Limit, Outcome, Profile, Verdict, load_profile
from letheon.audit.record.evidence import Attack, Evidence, Role, Value, level_of
from letheon.core.statistics import holm
from letheon.report.numbers import interval, number

__all__ = ["judge", "load_profile"]

MODELS: dict[str, Role] = {"before": "before", "after": "after", "reference": "reference"}
CALLED = {"before": "the model before", "after": "the model after", "reference": "a reference"}
LEVEL = 0.025  # one-sided, that of a 95 % interval
# Metrics that are measured on holdout rows too, which may stand in for a reference.
OF_HOLDOUT = {
    "recall",
    "rouge_l_recall",
    "probability",
    "value_probability",
    "exact_memorization",
    "extraction_strength",
    "truth_ratio",
}
ROUNDING = 1e-9  # 0.95 x 1.0 and 0.95 differ in the last bit
OR_HOLDOUT = " (holdout rows could serve instead: basis `times holdout` or `plus holdout`)"
LIMITS = (
    "Unlearning of this kind is approximate: the tests bound what can be drawn out of the model by the means "
    "that were used, and do not show that no trace is left in its weights."
)


def measured(criterion: Criterion, model: Role, evidence: Evidence) -> Value:
    """What the criterion is about, for one model; a `Value` with the reason when it was not measured."""
    kind, _, name = criterion.metric.partition(":")
    found: list[Value | None]
    match kind:
        case "attack" if name == "*":
            return worst_attack(evidence, model)[0]
        case "attack":
            found = [_of_attack(attack, model) for attack in evidence.attacks if attack.name == name]
        case "quantised":
            rounded = [q for q in evidence.quantised if q.model == model and name in (str(q.bits), q.file_type)]
            found = [q.forget_recall if criterion.subset == "forget" else q.retain_recall for q in rounded]
        case "relearn":
            trained_on = name or "forgotten"
            curves = [c for c in evidence.curves if (c.model, c.trained_on) == (model, trained_on) and c.points]
            found = [Value(value=max(point.recall for point in c.points), n=c.n) for c in curves]
        case "after_learning":
            if not evidence.continued:
                return Value.missing("no stream was learned after the deletion (--after-learning)")
            learned = [one for one in evidence.continued if one.model == model]
            found = [one.highest if criterion.subset == "forget" else one.kept_lowest for one in learned]
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


def worst_attack(evidence: Evidence, model: Role) -> tuple[Value, str]:
    """How far the strongest informative attack lies above its level, and its name.

    The level of an attack is what the reference gives, or chance where that is more or all that is known. An attack
    whose chance is above 0 counts with the lower end of its interval: half of all models that know nothing lie above
    chance. The reference's own excess is 0.
    """
    tried = [attack for attack in evidence.attacks if attack.informative]
    if not tried:
        return Value.missing("no attack was run to which the model before falls"), ""
    if model == "reference":
        if all(attack.reference is None or attack.reference.value is None for attack in tried):
            return Value.missing(f"no attack was run on {CALLED[model]}"), ""
        return Value(value=0.0), ""
    excesses = [(_excess(attack, model), attack.name) for attack in tried]
    known = [(value, name) for value, name in excesses if value.value is not None]
    if len(known) < len(excesses):
        return next((value, name) for value, name in excesses if value.value is None)
    return max(known, key=lambda one: one[0].value or 0.0)


def _excess(attack: Attack, model: Role) -> Value:
    """An attack's value above its level; the interval moves along."""
    value = _of_attack(attack, model)
    if value is None or value.value is None:
        return value or Value.missing(f"attack {attack.name} was not run on {CALLED[model]}")
    level = level_of(attack.chance, attack.reference)
    counted = value.low if attack.chance > 0 and value.low is not None else value.value
    ends = [None if end is None else end - level for end in (value.low, value.high)]
    return Value(value=counted - level, low=ends[0], high=ends[1], n=value.n)


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
    if source == "holdout":
        control = evidence.metric(criterion.metric, "holdout", "after")
        return control.value if control else Value.missing(f"{criterion.metric} was not measured on holdout rows")
    if source in MODELS:
        found = measured(criterion, MODELS[source], evidence)
        offers = source == "reference" and found.value is None and criterion.metric in OF_HOLDOUT
        return Value.missing(f"{found.reason}{OR_HOLDOUT}") if offers else found
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
    if kind == "attack" and name != "*" and any(a.name == name and not a.informative for a in evidence.attacks):
        return "uninformative: the model before the deletion withstands this attack too"
    before = measured(criterion, "before", evidence)
    recalled = {"attack", "quantised", "relearn", "after_learning", "recall"}
    needs_control = kind in recalled and criterion.subset == "forget"
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
    family = [criterion for criterion in profile.criteria if _interval_decides(criterion, profile)]
    held = iter(held_to(family, evidence))
    outcomes = [
        judge_criterion(c, profile, evidence, next(held) if _interval_decides(c, profile) else None)
        for c in profile.criteria
    ]
    required = [found for found in outcomes if found.criterion.required]
    failed = [found for found in required if found.outcome == "fail"]
    aside = [found for found in required if _set_aside(found)]
    undecided = [f for f in required if f.outcome in {"not computable", "inconclusive"} and not _set_aside(f)]
    met = [found for found in required if found.outcome == "pass"]
    return Verdict(
        outcome="fail" if failed else "pass" if met and not undecided else "inconclusive",
        words=_paragraph(met, failed, undecided, aside),
        criteria=outcomes,
        family=Family(criteria=[criterion.name for criterion in family], level=LEVEL) if family else None,
        profile=profile.name,
        profile_sha256=profile.sha256,
        fixed_at=profile.fixed_at,
    )


def _interval_decides(criterion: Criterion, profile: Profile) -> bool:
    """Whether the whole interval must lie in the accepted range for the verdict."""
    return criterion.required and (criterion.interval or profile.interval) == "bound"


@dataclass(frozen=True)
class Held:
    """A criterion among those that intervals decide: its p-value, Holm's level, and whether it holds there."""

    p: float
    level: float
    holds: bool


def held_to(family: list[Criterion], evidence: Evidence) -> list[Held]:
    """Holm's procedure over criteria; one without an interval has p = 1 and counts."""
    values = [p_value(measured(one, "after", evidence), accepted(one, evidence)) for one in family]
    return [Held(p, level, holds) for p, (level, holds) in zip(values, holm(values, LEVEL), strict=True)]


def p_value(value: Value, limits: Accepted) -> float:
    """One-sided p-value of "the criterion is not satisfied", from the value's 95 % interval.

    Each arm of the interval counts as 1.96 standard errors: with the end of the interval on the limit, p is 0.025.
    Between two limits the worse side counts. 1 where there is no interval or no limit.
    """
    if value.value is None or value.low is None or value.high is None or value.n < 2 or limits.reason:
        return 1.0
    sides = []
    if limits.at_most is not None:
        sides.append((limits.at_most - value.value, value.high - value.value))
    if limits.at_least is not None:
        sides.append((value.value - limits.at_least, value.value - value.low))
    return max(_beyond(inside, arm) for inside, arm in sides)


def _beyond(inside: float, arm: float) -> float:
    """Probability of a normal deviate beyond a limit that lies `inside` away; `arm` is 1.96 standard errors."""
    if arm <= ROUNDING:
        return 0.0 if inside >= -ROUNDING else 1.0
    return float(stats.norm.sf(stats.norm.isf(LEVEL) * inside / arm))


def judge_criterion(
    criterion: Criterion, profile: Profile, evidence: Evidence, held: Held | None = None
) -> CriterionOutcome:
    """Decide one criterion.

    Args:
        held: what Holm's procedure says of it, where its interval decides beside others.
    """
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
            p=held.p if held else None,
            level=held.level if held else None,
            outcome=outcome,
            words=words,
        )

    if value.value is None:
        return decided("not computable", f"Not computable: {value.reason}.")
    if limits.reason:
        return decided("not computable", f"Measured {number(value.value)}; its limit is unknown: {limits.reason}.")
    within = limits.contains(value.value)
    by = worst_attack(evidence, "after")[1] if criterion.metric == "attack:*" else ""
    words = f"Measured {number(value.value)}{f' by {by}' if by else ''}, {limits.words()} accepted"
    if objection and within:
        return decided("inconclusive", f"{words}; {objection}.")
    if within and (criterion.interval or profile.interval) == "bound":
        if value.low is None or value.high is None or value.n < 2:
            return decided("inconclusive", f"{words}; the interval decides here, and none was measured.")
        if straddles:
            return decided("inconclusive", f"{words}, for the whole interval; {_straddling(value)}.")
        if held and not held.holds:
            return decided("inconclusive", f"{words}, for the whole interval; {_shared(held)}.")
    remark = f"; {_straddling(value)}" if straddles else ""
    return decided("pass" if within else "fail", f"{words}{remark}.")


def _straddling(value: Value) -> str:
    """The remark on an interval that lies partly outside the accepted range."""
    return f"the interval {interval(value)} (n {value.n}) straddles the limit, so more rows could change this"


def _shared(held: Held) -> str:
    """The remark on a criterion that its own interval would pass, and its share of the family's level does not."""
    return (
        f"the interval lies inside, but among the criteria that intervals decide its p of {held.p:.2g} exceeds "
        f"Holm's level of {held.level:.2g}, so more rows are needed"
    )


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
