"""From measurements to a verdict, by criteria that were fixed and hashed before the run.

Three rules hold under every profile. Collapse is not forgetting: a profile must demand kept utility, fluent answers and
little damage beside forgetting. An attack needs its positive control: an attack that the model before the deletion
withstands too is uninformative and never passed. A criterion without a value is reported as such and does not pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from letheon.audit.criteria import (
    OF_LANGUAGE,
    Criterion,
    CriterionOutcome,
    Family,
    Outcome,
    Profile,
    Verdict,
    load_profile,
)
from letheon.audit.criterion_limits import LEVEL, Accepted, HolmTest, accepted, holm_tests
from letheon.audit.criterion_relearning import ONLY_ROW, curves_of_only_rows
from letheon.audit.criterion_values import (
    OF_NAMES,
    ROUNDING,
    chance_of,
    knowing_reference,
    measured,
    on_common_rows,
    only_before,
    paired_interval,
    trained_on,
    uninformative,
    unmeasured_attacks,
    usable,
    worst_attack,
)
from letheon.audit.record.evidence import Evidence, Value
from letheon.report.numbers import interval, number

__all__ = ["judge", "load_profile"]

# Attacks on running text; all others that draw facts ask questions.
ON_TEXT = ("text_begun", "text_last_words", "text_asked", "text_at_k")

CAVEAT = (
    "Unlearning of this kind is approximate: the tests bound what can be drawn out of the model by the means "
    "that were used, and do not show that no trace is left in its weights."
)
OF_ALL_ATTACKS = ("attack:*", "attacks:any")
BY_SPEED = "of the way from the reference to the model before, which learn the only row slower and faster"
FEW_FIT = {"fluency": OF_NAMES, "relearn": ONLY_ROW}  # metrics that do not fit some requests, and what is said of these


def judge(profile: Profile, evidence: Evidence) -> Verdict:
    """Hold the evidence against the profile.

    The verdict is "fail" if a required criterion fails; else "inconclusive" if a required one is undecided, unless the
    profile sets it aside when it cannot be measured; else "pass". A reference that knows the facts is left out.
    """
    names = any((criterion.metric, criterion.instead) == OF_LANGUAGE for criterion in profile.criteria)
    refused, evidence = knowing_reference(evidence), on_common_rows(usable(evidence), names)
    family = [criterion for criterion in profile.criteria if _interval_decides(criterion, profile)]
    tests = iter(holm_tests(family, evidence))
    outcomes = [
        judge_criterion(c, profile, evidence, next(tests) if _interval_decides(c, profile) else None)
        for c in profile.criteria
    ]
    outcomes = [_replaced(outcome, outcomes, evidence) for outcome in outcomes]
    required = [outcome for outcome in outcomes if outcome.criterion.required]
    passed = [outcome for outcome in required if outcome.outcome == "pass"]
    failed = [outcome for outcome in required if outcome.outcome == "fail"]
    aside = [outcome for outcome in required if outcome.is_set_aside]
    undecided = [o for o in required if o.outcome in {"not computable", "inconclusive"} and not o.is_set_aside]
    return Verdict(
        outcome="fail" if failed else "pass" if passed and not undecided else "inconclusive",
        words=_paragraph(passed, failed, undecided, aside, refused),
        criteria=outcomes,
        family=Family(criteria=[criterion.name for criterion in family], level=LEVEL) if family else None,
        profile=profile.name,
        profile_sha256=profile.sha256,
        fixed_at=profile.fixed_at,
    )


def _interval_decides(criterion: Criterion, profile: Profile) -> bool:
    """Say whether the whole interval must lie in the accepted range for the verdict."""
    return criterion.required and (criterion.interval or profile.interval) == "bound"


def _replaced(outcome: CriterionOutcome, others: Sequence[CriterionOutcome], evidence: Evidence) -> CriterionOutcome:
    """Mark a criterion that fits no model, since no row is a question, most answers are names, there is one row only or
    rounding wipes out the model before, where its stand-in was decided."""
    criterion = outcome.criterion
    values = [measured(criterion, "before", evidence).value, outcome.measured.value]
    of_questions = [one for one in evidence.attacks if one.unit == "share of facts" and one.name not in ON_TEXT]
    fits = values != [None, None] or any(one.before.value is not None for one in of_questions)
    if criterion.metric in FEW_FIT:
        fits = outcome.measured.reason != FEW_FIT[criterion.metric]
    if criterion.metric.startswith("quantised:"):
        came_back = any(one.model == "after" and one.forget_recall.value for one in evidence.quantised)
        fits = values[0] != 0 or values[1] is None or came_back or outcome.outcome == "fail"
    if not criterion.instead or fits:
        return outcome
    standing_in = [one for one in others if one.criterion.metric == criterion.instead and one.criterion.required]
    decided = any(one.criterion.subset == criterion.subset and one.outcome in ("pass", "fail") for one in standing_in)
    return outcome.model_copy(update={"replaced": decided})


# One criterion ------------------------------------------------------------------------------------------------------


def judge_criterion(
    criterion: Criterion, profile: Profile, evidence: Evidence, holm_test: HolmTest | None = None
) -> CriterionOutcome:
    """Decide one criterion.

    Args:
        holm_test: the result of Holm's procedure for it, where its interval decides together with others'.
    """
    value, limits = measured(criterion, "after", evidence), accepted(criterion, evidence)
    paired = paired_interval(criterion, value, evidence, limits.basis)
    if paired is not value:
        limits = limits.widened(criterion, paired)
    straddles = value.n >= 2 and limits.straddled(paired)
    objection = "" if value.value is None else uninformative(criterion, evidence)
    outcome: Outcome = "not computable"
    if value.value is None:
        words = f"Not computable: {value.reason}"
        if criterion.if_missing == "set aside" and only_before(criterion, evidence):
            outcome, words = "inconclusive", f"{words}; the model before could be measured, so it is not set aside"
    elif limits.reason:
        outcome = "inconclusive"  # a value was measured: the profile's rule for missing ones does not apply
        words = f"Measured {number(value.value)}; its limit is unknown: {limits.reason}"
    else:
        strongest = criterion.metric == "attack:*"
        by = f" by {worst_attack(evidence, 'after')[1]}" if strongest else ""
        form = trained_on(criterion, evidence)
        alone = criterion.metric == "relearn" and curves_of_only_rows(evidence)
        remarks = [
            limits.remark,
            f"the deletion was trained on this form of question ({form})" if form else "",
            BY_SPEED if alone else "",
        ]
        remark = "".join(f" ({one})" for one in remarks if one)
        words = f"Measured {number(value.value)}{by}, {limits.words()} accepted{remark}"
        within = limits.contains(value.value)
        if within:
            bound = (criterion.interval or profile.interval) == "bound"
            doubt = f"; {objection}" if objection else _doubt_of_pass(paired, straddles, holm_test) if bound else ""
            doubt = doubt or (_doubt_of_attacks(evidence) if criterion.metric in OF_ALL_ATTACKS else "")
        else:
            doubt = _doubt_of_failure(criterion, profile, evidence, value, limits, objection)
        outcome = "inconclusive" if doubt else "pass" if within else "fail"
        words += doubt or (f"; {_straddling(paired)}" if straddles else "")
    return CriterionOutcome(
        criterion=criterion,
        measured=value,
        at_least=limits.at_least,
        at_most=limits.at_most,
        straddles=straddles,
        informative=not objection,
        p=holm_test.p if holm_test else None,
        level=holm_test.level if holm_test else None,
        outcome=outcome,
        words=f"{words}.",
    )


def _doubt_of_pass(value: Value, straddles: bool, holm_test: HolmTest | None) -> str:
    """Return why a value inside the range is not passed where the interval decides; empty when it is passed."""
    if value.low is None or value.high is None or value.n < 2:
        return "; the interval decides here, and none was measured"
    if straddles:
        return f", for the whole interval; {_straddling(value)}"
    if holm_test and not holm_test.holds:
        return (
            ", for the whole interval; the interval lies inside, but among the criteria that intervals decide its p of "
            f"{holm_test.p:.2g} exceeds Holm's level of {holm_test.level:.2g}, so more rows are needed"
        )
    return ""


def _doubt_of_attacks(evidence: Evidence) -> str:
    """Return why the strongest of the measured attacks is not enough to pass; empty when all were measured."""
    missing = ", ".join(unmeasured_attacks(evidence))
    return f"; the model before falls to what the model after could not be asked: {missing}" if missing else ""


def _doubt_of_failure(
    criterion: Criterion, profile: Profile, evidence: Evidence, value: Value, limits: Accepted, objection: str
) -> str:
    """Return why a value outside the range is not failed; empty when it is failed.

    Half of all models without any knowledge lie above an attack's chance level. A profile that judges by intervals
    therefore fails such an attack only where its interval lies above both its limit and chance.
    """
    chance = chance_of(criterion, evidence)
    if profile.interval == "point" or not chance or limits.at_most is None or value.low is None:
        return ""
    if value.low > max(limits.at_most, chance) + ROUNDING:
        return ""
    reaches = f"the interval {interval(value)} (n {value.n}) reaches the limit or chance ({number(chance)})"
    return f"; {objection or f'{reaches}, so more rows are needed'}"


def _straddling(value: Value) -> str:
    """Return the remark on an interval that lies partly outside the accepted range."""
    return f"the interval {interval(value)} (n {value.n}) straddles the limit, so more rows could change this"


# Words --------------------------------------------------------------------------------------------------------------


def _paragraph(
    passed: list[CriterionOutcome],
    failed: list[CriterionOutcome],
    undecided: list[CriterionOutcome],
    aside: list[CriterionOutcome],
    refused: str,
) -> str:
    """Return the verdict in two to five sentences for a reader who is no engineer."""
    total = len(passed) + len(failed) + len(undecided)
    sentences = []
    if failed:
        which = "; ".join(
            f"“{one.criterion.name}” (measured {number(one.measured.value)}, "
            f"{Accepted(one.at_least, one.at_most).words()} accepted)"
            for one in failed
        )
        sentences.append(f"The deletion does not meet {len(failed)} of {total} required criteria: {which}.")
        sentences.append("By these tests the request has not been carried out as demanded.")
    elif undecided or not passed:
        sentences.append(
            f"No required criterion failed, but {len(undecided)} of {total} could not be decided: {_names(undecided)}."
        )
        sentences.append(
            "The evidence is not enough to say that the request has been carried out, nor that it has not."
        )
    else:
        sentences.append(
            f"All {total} required criteria, fixed before the run, are met: by these tests the model "
            "no longer gives what it was asked to forget, and what it should keep is kept."
        )
        if straddling := sum(outcome.straddles for outcome in passed):
            sentences.append(
                f"In {straddling} of them the interval straddles the limit: more rows could change the outcome."
            )
    if aside:
        sentences.append(
            f"Set aside, as the profile allows for a test that was not run or shows nothing: {_names(aside)}."
        )
    if refused:
        sentences.append(f"There was no negative control: {refused}.")
    return " ".join([*sentences, CAVEAT])


def _names(outcomes: list[CriterionOutcome]) -> str:
    return "; ".join(f"“{outcome.criterion.name}”" for outcome in outcomes)
