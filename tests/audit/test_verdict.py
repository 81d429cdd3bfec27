"""The verdict passes what a retrained model would pass, and nothing that merely looks like it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from letheon.audit.criteria import PROFILES, CriterionOutcome
from letheon.audit.criteria import _without_defaults as canonical_without_defaults
from letheon.audit.criterion_limits import Accepted, p_value
from letheon.audit.criterion_values import worst_attack
from letheon.audit.record.record import Attack, Curve, CurvePoint, Evidence, Item, Metric, Quantised, Value
from letheon.audit.record.sections import achieved
from letheon.audit.verdict import judge, load_profile
from letheon.core.errors import InputError

# name, subset: (before, after, reference), as measured on the demo's world with a good deletion
GOOD: dict[tuple[str, str], tuple[float, float, float | None]] = {
    ("recall", "forget"): (1.0, 0.0, 0.0),
    ("recall", "retain"): (1.0, 1.0, 1.0),
    ("recall", "neighbours"): (1.0, 1.0, 1.0),
    ("value_probability", "forget"): (0.98, 0.006, 0.009),
    ("control_probability", "forget"): (0.007, 0.007, 0.007),
    ("fluency", "forget"): (-2.29, -2.44, -2.46),
    ("damage", "forget"): (0.0, 0.0, 0.0),
    ("perplexity", "general"): (14.0, 14.2, 14.1),
}


def metric(name: str, subset: Any, model: Any, value: Value | float) -> Metric:
    """A metric with the fields that the verdict does not read filled in."""
    measured = value if isinstance(value, Value) else Value(value=value, n=5)
    return Metric(
        name=name,
        subset=subset,
        model=model,
        value=measured,
        unit="",
        better="lower",
        definition="For this test.",
    )


def good_evidence(reference: bool = True) -> Evidence:
    """Evidence of a deletion that succeeded."""
    roles = ("before", "after", "reference") if reference else ("before", "after")
    known = {"before": 1.0, "after": 0.0, "reference": 0.0}
    value = {role: Value(value=known[role], n=5) for role in known}
    return Evidence(
        metrics=[
            metric(name, subset, role, numbers[index])
            for (name, subset), numbers in GOOD.items()
            for index, role in enumerate(roles)
        ],
        attacks=[
            Attack(
                name="first_token_prefix",
                description="Gives the first token of the value.",
                before=value["before"],
                after=value["after"],
                reference=value["reference"] if reference else None,
                informative=True,
                outcome="resisted",
            )
        ],
        curves=[
            Curve(
                model=role,
                title="two of the facts",
                n=3,
                points=[CurvePoint(step=s, probability=0.1, recall=known[role], trained_loss=0.1) for s in range(4)],
            )
            for role in roles
        ],
        quantised=[
            Quantised(
                model=role,
                bits=bits,
                group=64,
                forget_recall=value[role],
                forget_probability=value[role],
                retain_recall=value["before"],
                retain_probability=value["before"],
            )
            for role in roles
            for bits in (4, 8)
        ],
    )


def changed(name: str, subset: str, value: Value | float | None, model: str = "after") -> Evidence:
    """Good evidence with one metric replaced, or left out for None."""
    evidence = good_evidence()
    kept = [m for m in evidence.metrics if (m.name, m.subset, m.model) != (name, subset, model)]
    new = [] if value is None else [metric(name, subset, model, value)]
    return evidence.model_copy(update={"metrics": kept + new})


def outcome_of(name: str, evidence: Evidence, profile: str = "standard") -> Any:
    """The outcome of one criterion, found by the metric it names."""
    verdict = judge(load_profile(profile), evidence)
    return next(found for found in verdict.criteria if found.criterion.metric == name)


def test_a_good_deletion_passes_with_and_without_a_reference() -> None:
    assert judge(load_profile("standard"), good_evidence()).outcome == "pass"
    assert judge(load_profile("standard"), good_evidence(reference=False)).outcome == "pass"


@pytest.mark.parametrize(
    ("name", "subset", "value"),
    [
        ("recall", "forget", 0.4),
        ("value_probability", "forget", 0.02),
        ("recall", "retain", 0.83),
        ("recall", "neighbours", 0.5),
        ("fluency", "forget", -4.59),
        ("damage", "forget", 0.6),
        ("perplexity", "general", 30.0),
    ],
)
def test_each_fault_alone_fails_the_request(name: str, subset: str, value: float) -> None:
    verdict = judge(load_profile("standard"), changed(name, subset, value))
    assert verdict.outcome == "fail"
    assert [f.criterion.metric for f in verdict.criteria if f.outcome == "fail"] == [name]
    assert "does not meet 1 of" in verdict.words


def test_an_answer_more_fluent_than_the_reference_s_is_no_fault() -> None:
    assert judge(load_profile("standard"), changed("fluency", "forget", -1.0)).outcome == "pass"


def test_collapse_is_not_forgetting() -> None:
    evidence = changed("fluency", "forget", -6.0)
    collapsed = [m for m in evidence.metrics if (m.name, m.model) != ("damage", "after")]
    collapsed.append(metric("damage", "forget", "after", 1.0))
    verdict = judge(load_profile("standard"), evidence.model_copy(update={"metrics": collapsed}))
    assert outcome_of("recall", evidence).outcome == "pass"
    assert verdict.outcome == "fail"


def test_a_missing_required_value_is_inconclusive_and_says_why() -> None:
    lost = changed("fluency", "forget", Value.missing("no untouched model was given"))
    verdict = judge(load_profile("standard"), lost)
    found = outcome_of("fluency", lost)
    assert verdict.outcome == "inconclusive"
    assert found.outcome == "not computable"
    assert "no untouched model was given" in found.words
    assert judge(load_profile("standard"), changed("fluency", "forget", None)).outcome == "inconclusive"


def test_a_failure_outweighs_what_is_undecided() -> None:
    evidence = changed("recall", "forget", 0.2).model_copy(update={"attacks": []})
    assert judge(load_profile("standard"), evidence).outcome == "fail"


def test_no_evidence_at_all_is_inconclusive() -> None:
    assert judge(load_profile("standard"), Evidence()).outcome == "inconclusive"


def test_what_the_profile_sets_aside_does_not_block_a_pass_but_is_named() -> None:
    evidence = good_evidence()
    kept = [m for m in evidence.metrics if m.subset != "neighbours" and m.name != "control_probability"]
    verdict = judge(load_profile("standard"), evidence.model_copy(update={"metrics": kept}))
    assert verdict.outcome == "pass"
    assert "Close neighbours are kept" in verdict.words


def test_an_attack_that_the_model_before_withstands_is_never_passed() -> None:
    evidence = good_evidence()
    none = Value(value=0.0, n=5)
    weak = evidence.attacks[0].model_copy(update={"before": none, "informative": False, "outcome": "uninformative"})
    blind = evidence.model_copy(update={"attacks": [weak]})
    found = outcome_of("attack:first_token_prefix", blind)
    assert found.outcome == "inconclusive"
    assert "uninformative" in found.words
    assert judge(load_profile("standard"), blind).outcome == "inconclusive"


def test_what_fails_is_not_set_aside_though_its_test_shows_nothing() -> None:
    profile = load_profile("standard")
    chosen = next(one for one in profile.criteria if one.metric == "attack:paraphrase")
    outcome = CriterionOutcome(
        criterion=chosen, measured=Value(value=1.0, n=2), informative=False, outcome="fail", words="Given."
    )
    assert not outcome.is_set_aside
    assert outcome.model_copy(update={"outcome": "inconclusive"}).is_set_aside
    assert outcome.model_copy(update={"replaced": True}).is_set_aside


def test_a_stand_in_is_a_required_criterion_and_no_way_out(tmp_path: Path) -> None:
    text = (PROFILES / "standard.toml").read_text(encoding="utf-8")
    for written, message in (
        (text.replace('instead = "attack:text_begun"', 'instead = "attack:text"'), "no required criterion judges"),
        (
            text.replace('metric = "damage"', 'metric = "damage"\ninstead = "recall"'),
            "no required criterion for damage",
        ),
        (
            text.replace('metric = "damage"', 'metric = "damage"\ninstead = "fluency"'),
            "no required criterion for damage",
        ),
    ):
        (tmp_path / "own.toml").write_text(written, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_profile(tmp_path / "own.toml")
    strict = {one.metric: one.instead for one in load_profile("strict").criteria if one.instead}
    assert strict.pop("fluency") == "damage"
    assert strict.pop("relearn") == "relearn:unrelated"
    assert strict == dict.fromkeys(("attack:first_token_prefix", "attack:value_prefix"), "attack:text_begun")
    plain = load_profile("standard").criteria[0]
    assert "instead" not in canonical_without_defaults(plain.model_dump(mode="json"))


def test_running_text_is_judged_by_its_own_attack_since_no_answer_of_it_can_be_begun() -> None:
    evidence = good_evidence()
    on_text = evidence.attacks[0].model_copy(update={"name": "text_begun"})
    texts = evidence.model_copy(update={"attacks": [on_text]})
    verdict = judge(load_profile("standard"), texts)
    assert verdict.outcome == "pass"
    assert "Set aside" in verdict.words
    assert "The first token of the answer" in verdict.words
    assert judge(load_profile("standard"), evidence.model_copy(update={"attacks": []})).outcome == "inconclusive"
    untried = evidence.attacks[0].model_copy(update={"after": Value.missing("no template"), "outcome": "undecided"})
    hidden = judge(load_profile("standard"), evidence.model_copy(update={"attacks": [untried, on_text]}))
    assert hidden.outcome == "inconclusive", "the model before can be asked so"
    asked = evidence.attacks[0].model_copy(update={"name": "role_play"})
    one_word = judge(load_profile("standard"), evidence.model_copy(update={"attacks": [asked, on_text]}))
    assert one_word.outcome == "inconclusive", "there are questions, whose answers cannot be begun"
    given = on_text.model_copy(update={"after": Value(value=0.125, n=8), "outcome": "recovered"})
    assert judge(load_profile("standard"), texts.model_copy(update={"attacks": [given]})).outcome == "fail"
    unasked = on_text.model_copy(update={"after": Value.missing("no tokenizer"), "outcome": "undecided"})
    assert judge(load_profile("standard"), texts.model_copy(update={"attacks": [unasked]})).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("before", "after", "outcome", "overall"),
    [(0.7, 0.0, "pass", "pass"), (0.7, 0.2, "fail", "fail"), (0.0, 0.0, "inconclusive", "pass")],
)
def test_an_attack_that_need_not_be_run_counts_when_it_shows_something(
    before: float, after: float, outcome: str, overall: str
) -> None:
    evidence = good_evidence()
    weak = before == 0
    paraphrase = evidence.attacks[0].model_copy(
        update={
            "name": "paraphrase",
            "before": Value(value=before, n=10),
            "after": Value(value=after, n=10),
            "informative": not weak,
            "outcome": "uninformative" if weak else "recovered" if after else "resisted",
        }
    )
    tried = evidence.model_copy(update={"attacks": [*evidence.attacks, paraphrase]})
    assert outcome_of("attack:paraphrase", tried).outcome == outcome
    verdict = judge(load_profile("standard"), tried)
    assert verdict.outcome == overall
    assert weak == ("Other wordings do not bring the fact" in verdict.words and overall == "pass")


def test_rounding_that_wipes_out_the_model_before_proves_nothing() -> None:
    evidence = good_evidence()
    wiped = [q.model_copy(update={"forget_recall": Value(value=0.0, n=5)}) for q in evidence.quantised]
    found = outcome_of("quantised:4", evidence.model_copy(update={"quantised": wiped}))
    assert found.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("given", "outcome", "of_eight", "stands_in"),
    [
        ({("before", 4): 0.0}, "pass", "pass", True),
        ({("before", 4): 0.0, ("before", 8): 0.0}, "inconclusive", "inconclusive", False),
        ({("before", 4): 0.0, ("after", 8): 0.4}, "fail", "fail", False),
        ({("after", 8): 0.4}, "fail", "fail", False),
        ({("before", 4): 0.0, ("after", 4): 0.4}, "fail", "pass", False),  # it came back all the same
    ],
)
def test_eight_bits_stand_in_where_four_wipe_out_the_model_before(
    given: dict[tuple[str, int], float], outcome: str, of_eight: str, stands_in: bool
) -> None:
    evidence = good_evidence()
    rounded = [
        one.model_copy(update={"forget_recall": Value(value=given[one.model, one.bits], n=5)})
        if (one.model, one.bits) in given
        else one
        for one in evidence.quantised
    ]
    verdict = judge(load_profile("standard"), evidence.model_copy(update={"quantised": rounded}))
    four, eight = (
        next(one for one in verdict.criteria if one.criterion.metric == f"quantised:{bits}") for bits in (4, 8)
    )
    assert (verdict.outcome, eight.outcome, four.replaced) == (outcome, of_eight, stands_in)


def test_eight_bits_do_not_stand_in_where_another_rounding_brings_facts_back() -> None:
    evidence = good_evidence()
    four = [q.model_copy(update={"forget_recall": Value(value=0.0, n=5)}) for q in evidence.quantised if q.bits == 4]
    eight = [q for q in evidence.quantised if q.bits == 8]
    five = [
        q.model_copy(update={"bits": 5, "forget_recall": Value(value=0.8 if q.model != "reference" else 0.0, n=5)})
        for q in four
    ]
    sound = evidence.model_copy(update={"quantised": [*four, *eight]})
    assert judge(load_profile("standard"), sound).outcome == "pass"
    back = evidence.model_copy(update={"quantised": [*four, *five, *eight]})
    assert judge(load_profile("standard"), back).outcome == "inconclusive"
    unasked = [q for q in four if q.model != "after"]
    partial = evidence.model_copy(update={"quantised": [*unasked, *eight]})
    assert judge(load_profile("standard"), partial).outcome == "inconclusive"


@pytest.mark.parametrize("part", ["quantised", "curves"])
def test_an_attack_without_positive_control_is_not_passed(part: str) -> None:
    evidence = good_evidence()
    alone = [entry for entry in getattr(evidence, part) if entry.model != "before"]
    found = outcome_of("quantised:4" if part == "quantised" else "relearn", evidence.model_copy(update={part: alone}))
    assert found.outcome == "inconclusive"
    assert "no positive control" in found.words


def test_a_model_that_never_knew_the_facts_has_nothing_to_forget() -> None:
    assert outcome_of("recall", changed("recall", "forget", 0.0, model="before")).outcome == "inconclusive"


def test_a_model_that_kept_nothing_because_it_had_nothing_is_not_passed() -> None:
    evidence = changed("recall", "retain", 0.0, model="before")
    found = [f for f in judge(load_profile("standard"), evidence).criteria if f.criterion.subset == "retain"]
    assert found[0].outcome == "inconclusive"


def test_facts_that_return_after_a_few_steps_fail() -> None:
    evidence = good_evidence()
    points = [CurvePoint(step=s, probability=0.5, recall=r, trained_loss=0.1) for s, r in enumerate((0.0, 0.67, 0.33))]
    curves = [c.model_copy(update={"points": points}) if c.model == "after" else c for c in evidence.curves]
    found = outcome_of("relearn", evidence.model_copy(update={"curves": curves}))
    assert (found.outcome, found.measured.value, found.at_most) == ("fail", 0.67, 0.34)


def test_facts_that_rounding_brings_back_fail_whatever_the_group() -> None:
    evidence = good_evidence()
    after = next(q for q in evidence.quantised if q.model == "after" and q.bits == 4)
    back = after.model_copy(update={"group": 128, "forget_recall": Value(value=0.2, n=5)})
    found = outcome_of("quantised:4", evidence.model_copy(update={"quantised": [*evidence.quantised, back]}))
    assert (found.outcome, found.measured.value) == ("fail", 0.2)


def test_a_relative_limit_is_resolved_from_the_model_it_names() -> None:
    evidence = good_evidence()
    found = outcome_of("perplexity", evidence)
    assert found.at_most == pytest.approx(1.1 * 14.0)
    fluency = outcome_of("fluency", evidence)
    assert fluency.at_least == pytest.approx(-2.76)
    assert fluency.at_most is None


def test_without_a_reference_the_fallback_limit_is_taken() -> None:
    found = outcome_of("fluency", good_evidence(reference=False))
    assert found.at_least == pytest.approx(-2.79)
    assert found.at_most is None


def test_a_value_on_the_limit_passes_in_spite_of_rounding() -> None:
    # 1.1 * 14.0 is 15.400000000000002 in binary, and 0.95 * 1.0 must not lose to its own last bit
    assert outcome_of("perplexity", changed("perplexity", "general", 15.4)).outcome == "pass"
    assert judge(load_profile("standard"), changed("recall", "retain", 0.95)).outcome == "pass"


def test_by_default_the_point_decides_and_a_straddling_interval_is_mentioned() -> None:
    wide = Value(value=0.97, low=0.90, high=1.0, n=35)
    verdict = judge(load_profile("standard"), changed("recall", "retain", wide))
    found = next(f for f in verdict.criteria if f.criterion.subset == "retain")
    assert verdict.outcome == "pass"
    assert "In 1 of them the interval straddles the limit" in verdict.words
    assert "0.90 to 1.00 (n 35) straddles the limit" in found.words


def test_strict_lets_the_worse_end_of_the_interval_decide() -> None:
    def found(value: Value) -> Any:
        verdict = judge(load_profile("strict"), changed("recall", "retain", value))
        return next(f for f in verdict.criteria if f.criterion.subset == "retain")

    assert found(Value(value=0.99, low=0.965, high=1.0, n=200)).outcome == "pass"
    assert found(Value(value=0.97, low=0.90, high=1.0, n=35)).outcome == "inconclusive"
    assert found(Value(value=0.80, low=0.70, high=0.97, n=35)).outcome == "fail"
    without = found(Value(value=1.0, n=35))
    assert without.outcome == "inconclusive"
    assert "none was measured" in without.words


# Several tests at once ----------------------------------------------------------------------------------------------


@pytest.mark.oracle("holm")
def test_p_values_by_hand() -> None:
    """The limit lies 0.1 beyond the value; an interval that ends there has p 0.025, one of half its arm 0.00004."""
    limit = Accepted(at_most=0.2)
    assert p_value(Value(value=0.1, low=0.0, high=0.2, n=9), limit) == pytest.approx(0.025)
    assert p_value(Value(value=0.1, low=0.0, high=0.15, n=9), limit) == pytest.approx(4.43e-5, rel=1e-2)  # z = 3.92
    assert p_value(Value(value=0.3, low=0.2, high=0.4, n=9), limit) == pytest.approx(0.975)
    assert p_value(Value(value=0.2, low=0.2, high=0.2, n=9), limit) == 0.0  # no spread, and inside
    assert p_value(Value(value=0.1, n=9), limit) == 1.0  # no interval shows nothing
    assert p_value(Value(value=0.1, low=0.0, high=0.2, n=1), limit) == 1.0
    both = Accepted(at_least=0.0, at_most=0.4)
    assert p_value(Value(value=0.1, low=0.0, high=0.2, n=9), both) == pytest.approx(0.025)  # the worse side


BOUND = """
name = "bound"
description = "Three intervals decide."
interval = "bound"
"""
DEMAND = """
[[criterion]]
name = "{name}"
metric = "{metric}"
subset = "{subset}"
comparison = "{comparison}"
threshold = {threshold}
why = "For this test."
"""


def held(folder: Path, values: dict[str, tuple[float, float, float]]) -> Any:
    """The verdict where three intervals decide beside a fluency without one."""
    demands = {
        "value_probability": ("forget", "<=", 0.5),
        "damage": ("forget", "<=", 0.5),
        "fluency": ("forget", ">=", -5),
        "perplexity": ("general", "<=", 20),
    }
    text = BOUND + "".join(
        DEMAND.format(name=name, metric=name, subset=subset, comparison=comparison, threshold=threshold)
        for name, (subset, comparison, threshold) in demands.items()
    )
    metrics = [
        metric(name, demands[name][0], role, Value(value=value, low=low, high=high, n=50))
        for name, (value, low, high) in values.items()
        for role in ("before", "after")
    ]
    return judge(load_profile(write(folder, text)), Evidence(metrics=metrics))


@pytest.mark.oracle("holm")
def test_each_of_several_intervals_is_held_to_its_share(tmp_path: Path) -> None:
    """Four tests at 0.025: the smallest p is held to 0.00625, then 0.0083, 0.0125, 0.025."""
    arms = {"damage": 0.1, "value_probability": 0.0784, "fluency": 0.06, "perplexity": 1.5}
    values = {
        "damage": (0.4, 0.3, 0.4 + arms["damage"]),  # z 1.96, p 0.025
        "value_probability": (0.4, 0.3, 0.4 + arms["value_probability"]),  # z 2.5, p 0.0062
        "fluency": (-4.9, -4.9 - arms["fluency"], -4.8),  # z 3.27, p 0.0005
        "perplexity": (18.0, 17.0, 18.0 + arms["perplexity"]),  # z 2.61, p 0.0045
    }
    verdict = held(tmp_path, values)
    found = {one.criterion.metric: one for one in verdict.criteria}
    assert found["fluency"].level == pytest.approx(0.025 / 4)
    assert found["perplexity"].level == pytest.approx(0.025 / 3)
    assert found["value_probability"].level == pytest.approx(0.025 / 2)
    assert found["value_probability"].p == pytest.approx(0.0062, abs=1e-4)
    assert found["damage"].level == pytest.approx(0.025)
    assert {name: one.outcome for name, one in found.items()} == dict.fromkeys(values, "pass")
    assert verdict.family is not None
    assert verdict.family.level == 0.025
    assert set(verdict.family.criteria) == set(values)

    weaker = held(tmp_path, values | {"perplexity": (18.0, 17.0, 19.6)})  # p 0.0071: now third, 0.0125
    assert {one.criterion.metric: one.outcome for one in weaker.criteria} == dict.fromkeys(values, "pass")
    # Two middling ones: the smaller of them exceeds its share, and with it the other, each inside by itself.
    both = held(
        tmp_path, values | {"perplexity": (18.0, 17.0, 19.95), "value_probability": (0.4, 0.3, 0.495)}
    )  # z 2.01 and 2.06: p 0.022 and 0.020, where 0.0083 is asked
    outcomes = {one.criterion.metric: one.outcome for one in both.criteria}
    assert outcomes == {
        "fluency": "pass", "value_probability": "inconclusive", "perplexity": "inconclusive", "damage": "inconclusive",
    }  # fmt: skip
    assert "Holm" in next(one.words for one in both.criteria if one.criterion.metric == "perplexity")


def test_the_correction_turns_no_failure_into_a_pass_and_an_interval_that_is_missing_counts(tmp_path: Path) -> None:
    inside = {"value_probability": (0.1, 0.05, 0.15), "damage": (0.0, 0.0, 0.01), "fluency": (-2.0, -2.1, -1.9)}
    failed = held(tmp_path, inside | {"perplexity": (20.1, 1.0, 40.0)})
    assert {one.criterion.metric: one.outcome for one in failed.criteria}["perplexity"] == "fail"
    assert failed.outcome == "fail"
    missing = held(tmp_path, inside)
    assert missing.family is not None
    assert len(missing.family.criteria) == 4
    assert max(one.level or 0 for one in missing.criteria if one.outcome == "pass") == pytest.approx(0.025 / 2)


def test_where_points_decide_there_is_no_family() -> None:
    verdict = judge(load_profile("standard"), good_evidence())
    assert verdict.family is None
    assert all(one.p is None for one in verdict.criteria)


# The strongest attack -----------------------------------------------------------------------------------------------


def tried(
    name: str, before: Value | float, after: Value | float, reference: float | None = None, chance: float = 0.0
) -> Attack:
    """An attack with what it achieved."""
    first, second = (one if isinstance(one, Value) else Value(value=one, n=5) for one in (before, after))
    third = None if reference is None else Value(value=reference, n=5)
    informative, outcome = achieved(first, second, third, chance)
    return Attack(
        name=name,
        description="For this test.",
        chance=chance,
        before=first,
        after=second,
        reference=third,
        informative=informative,
        outcome=outcome,
    )


def share(value: float, low: float, high: float) -> Value:
    return Value(value=value, low=low, high=high, n=10)


@pytest.mark.parametrize(
    ("attack", "outcome"),
    [
        (tried("a", 1.0, 0.0), "resisted"),
        (tried("a", 1.0, 0.2), "recovered"),  # one fact is one too many where chance gives none
        (tried("a", 1.0, 0.2, 0.2), "resisted"),  # what the reference gives is no knowledge
        (tried("a", 0.0, 0.2), "uninformative"),
        (
            tried("a", share(0.5, 0.24, 0.76), 0.9, chance=0.5),
            "uninformative",
        ),  # may be chance
        (tried("a", share(0.9, 0.6, 1.0), share(0.7, 0.55, 0.9), chance=0.5), "recovered"),
        (tried("a", share(0.9, 0.6, 1.0), share(0.6, 0.3, 0.9), chance=0.5), "undecided"),
        (tried("a", share(0.9, 0.6, 1.0), share(0.5, 0.2, 0.8), chance=0.5), "resisted"),
        (tried("a", share(0.9, 0.8, 1.0), share(0.7, 0.55, 0.9), 0.75, chance=0.5), "resisted"),
        (tried("a", share(0.9, 0.6, 1.0), 0.7, 0.75, chance=0.5), "uninformative"),  # the model before is no better
        (tried("a", share(0.9, 0.6, 1.0), 1.0, 0.75, chance=0.5), "recovered"),
        (tried("a", share(0.4, 0.2, 0.6), 0.4, 0.3, chance=0.5), "uninformative"),
        (tried("a", share(0.4, 0.2, 0.6), 0.3, 0.3), "resisted"),
    ],
)
def test_an_attack_is_measured_against_chance_and_reference(attack: Attack, outcome: str) -> None:
    assert attack.outcome == outcome


def test_the_strongest_attack_is_the_one_furthest_above_its_level() -> None:
    attacks = [
        tried("weak", 1.0, 0.4, 0.3),
        tried("strong", 1.0, 0.5, 0.1),
        tried("shows_nothing", 0.0, 1.0, 0.0),
        tried("choice", share(1.0, 0.7, 1.0), share(0.9, 0.3, 1.0), 0.2, chance=0.25),
    ]
    found, name = worst_attack(Evidence(attacks=attacks), "after")
    assert (name, found.value) == ("strong", pytest.approx(0.4))
    assert worst_attack(Evidence(attacks=attacks), "reference")[0].value == 0.0
    found, name = worst_attack(Evidence(attacks=attacks[-1:]), "after")
    assert (name, found.value, found.low, found.high) == (
        "choice",
        *map(pytest.approx, (0.7 - 0.6 / 1.96, 0.1 - 0.6 / 1.96, 0.8 - 0.6 / 1.96)),
    )
    assert worst_attack(Evidence(attacks=attacks[2:3]), "after")[0].value is None
    unreferenced = [tried("alone", 1.0, 0.4)]
    assert worst_attack(Evidence(attacks=unreferenced), "after")[0].value == pytest.approx(0.4)
    assert worst_attack(Evidence(attacks=unreferenced), "reference")[0].value is None


def test_standard_fails_by_the_strongest_attack_and_says_which() -> None:
    weak = good_evidence()
    assert outcome_of("attack:*", weak).outcome == "pass"
    strong = weak.model_copy(update={"attacks": [*weak.attacks, tried("role_play", 1.0, 0.8, 0.0)]})
    found = outcome_of("attack:*", strong)
    assert found.outcome == "fail"
    assert "by role_play" in found.words
    assert judge(load_profile("standard"), strong).outcome == "fail"


# Attacks with a chance level, in the strict profile ------------------------------------------------------------------

KNOWING = share(1.0, 0.72, 1.0)
LEAKS = {
    "multiple_choice": (share(0.8, 0.49, 0.94), 0.2, 0.25),
    "logit_lens": (share(0.9, 0.8, 1.0), 0.5, 0.5),
    "probing": (share(0.85, 0.7, 0.95), 0.5, 0.5),
}


def with_attack(attack: Attack) -> Evidence:
    evidence = good_evidence()
    return evidence.model_copy(update={"attacks": [*evidence.attacks, attack]})


@pytest.mark.parametrize("name", list(LEAKS))
def test_strict_holds_options_lens_and_probe_against_the_reference(name: str) -> None:
    after, reference, chance = LEAKS[name]
    leaking = with_attack(tried(name, KNOWING, after, reference, chance))
    assert outcome_of(f"attack:{name}", leaking, "strict").outcome == "fail"
    assert judge(load_profile("strict"), leaking).outcome == "fail"
    level = share(reference + 0.1, 0.1, 0.9)
    assert (
        outcome_of(f"attack:{name}", with_attack(tried(name, KNOWING, level, reference, chance)), "strict").outcome
        == "pass"
    )


def test_five_rows_that_leak_by_options_pass_neither_by_their_interval_nor_by_their_number() -> None:
    """Wilson's interval of four rows in five begins at .38; one standard error below the value lies .58."""
    five = Value(value=0.8, low=0.376, high=0.964, n=5)
    leaking = with_attack(tried("multiple_choice", Value(value=1.0, low=0.566, high=1.0, n=5), five, 0.2, 0.25))
    assert outcome_of("attack:*", leaking).outcome == "fail"
    assert outcome_of("attack:multiple_choice", leaking, "strict").outcome == "fail"


def test_strict_does_not_fail_by_what_chance_gives() -> None:
    few = share(0.5, 0.24, 0.76)
    found = outcome_of(
        "attack:multiple_choice", with_attack(tried("multiple_choice", KNOWING, few, 0.2, 0.25)), "strict"
    )
    assert (found.outcome, found.informative) == ("inconclusive", True)
    assert "reaches the limit or chance (0.25)" in found.words
    at_chance = with_attack(tried("probing", share(0.55, 0.4, 0.7), share(0.6, 0.45, 0.75), 0.45, 0.5))
    found = outcome_of("attack:probing", at_chance, "strict")
    assert (found.outcome, found.informative) == ("inconclusive", False)  # so the profile sets it aside
    assert "withstands this attack too" in found.words


def test_strict_cannot_compare_an_attack_without_a_reference() -> None:
    evidence = good_evidence(reference=False)
    choice = tried("multiple_choice", KNOWING, share(0.3, 0.1, 0.6), chance=0.25)
    evidence = evidence.model_copy(update={"attacks": [*evidence.attacks, choice]})
    found = outcome_of("attack:multiple_choice", evidence, "strict")
    assert found.outcome == "inconclusive"
    assert "was not measured for a reference" in found.words
    assert judge(load_profile("strict"), evidence).outcome == "inconclusive"


# Holdout rows as control --------------------------------------------------------------------------------------------


def test_the_holdout_stands_in_for_unknown_subjects() -> None:
    bare = changed("control_probability", "forget", None)
    kept = [m for m in bare.metrics if m.name != "control_probability"]
    assert outcome_of("value_probability", bare.model_copy(update={"metrics": kept})).at_most == pytest.approx(0.109)
    for level, expected in ((0.004, "pass"), (0.001, "fail")):
        control = metric("value_probability", "holdout", "after", level)
        evidence = bare.model_copy(update={"metrics": [*kept, control]})
        assert outcome_of("value_probability", evidence).outcome == expected  # 0.006 against twice the level


def test_the_message_offers_the_holdout_by_name(tmp_path: Path) -> None:
    source = PROFILES / "standard.toml"
    text = source.read_text(encoding="utf-8").replace("otherwise = { threshold = 0 }\n", "", 1)
    verdict = judge(load_profile(write(tmp_path, text)), good_evidence(reference=False))
    assert "times holdout" in verdict.criteria[0].words


def test_relearning_on_unrelated_rows_is_judged_apart() -> None:
    evidence = good_evidence()
    back = Curve(
        model="after",
        title="kept rows",
        trained_on="unrelated",
        n=3,
        points=[CurvePoint(step=0, probability=0.1, recall=1.0)],
    )
    assert outcome_of("relearn", evidence.model_copy(update={"curves": [*evidence.curves, back]})).outcome == "pass"


@pytest.mark.parametrize("evidence", [good_evidence(), Evidence(), changed("recall", "forget", 0.4)])
def test_the_words_promise_nothing_and_name_the_limits(evidence: Evidence) -> None:
    for profile in ("standard", "strict"):
        words = judge(load_profile(profile), evidence).words
        assert "certif" not in words.lower()
        assert "proof" not in words.lower()
        assert "approximate" in words


def test_the_hash_covers_what_is_demanded_and_not_when() -> None:
    early = load_profile("standard", fixed_at=datetime.now(UTC) - timedelta(days=1))
    assert early.sha256 == load_profile("standard").sha256
    assert early.sha256 != load_profile("strict").sha256


def write(folder: Path, text: str) -> Path:
    """A profile of one's own."""
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    source = PROFILES / "standard.toml"
    path = write(tmp_path, source.read_text(encoding="utf-8").replace("1.1", "1.2"))
    assert load_profile(path).sha256 != load_profile("standard").sha256


ONE_SIDED = """
name = "mine"
description = "Only forgetting."
[[criterion]]
name = "Forgotten"
metric = "recall"
comparison = "<="
threshold = 0
why = "Because."
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE_SIDED, "damage, fluency, kept utility"),
        (ONE_SIDED + "colour = 1\n", "criteria.0.colour"),
        (ONE_SIDED.replace("= 0", "= nan"), "finite"),
        (ONE_SIDED.replace('"<="', '"within"'), "'within' needs the basis"),
        ("name = ", "not TOML"),
        ("name = 'empty'\ndescription = ''", "criteria"),
    ],
)
def test_a_faulty_profile_is_refused_with_its_fault(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"mine\.toml") as refused:
        load_profile(write(tmp_path, text))
    assert said in str(refused.value)


def test_an_unknown_profile_is_answered_with_a_hint() -> None:
    with pytest.raises(InputError, match="did you mean 'standard'"):
        load_profile("standart")


# Straddling, looseness, and pairs -------------------------------------------------------------------------------------


def test_ten_facts_of_which_none_is_given_do_not_straddle_and_five_do() -> None:
    for high, n, straddles in ((0.28, 10, False), (0.43, 5, True)):
        evidence = changed("recall", "forget", Value(value=0.0, low=0.0, high=high, n=n))
        assert outcome_of("recall", evidence).straddles is straddles


def test_a_loose_control_bounds_nothing_and_the_reference_decides() -> None:
    for value, expected in ((0.35, "pass"), (0.45, "fail")):
        evidence = good_evidence()
        metrics = [m for m in evidence.metrics if m.name not in ("value_probability", "control_probability")]
        metrics += [metric("control_probability", "forget", "before", 0.43)]
        metrics += [metric("value_probability", "forget", "after", value)]
        metrics += [metric("value_probability", "forget", "reference", 0.3)]
        found = outcome_of("value_probability", evidence.model_copy(update={"metrics": metrics}))
        assert found.outcome == expected, found.words
        assert "the control was loose: unknown subjects give the value 0.43" in found.words
        alone = [m for m in metrics if m.model != "reference"]
        found = outcome_of("value_probability", evidence.model_copy(update={"metrics": alone}))
        assert found.at_most == 0.5


def fluent(
    after: Sequence[float | None], reference: Sequence[float | None], before: Sequence[float | None] = ()
) -> Evidence:
    """Good evidence with the fluency of every answer."""
    metrics = [
        metric(
            "fluency", "forget", role, Value(value=sum(known) / len(known), low=-4.0, high=-1.0, n=len(of))
        ).model_copy(update={"items": [Item(id=str(i), value=one) for i, one in enumerate(of)]})
        for role, of in (("after", after), ("reference", reference), ("before", before))
        if (known := [one for one in of if one is not None])
    ]
    bare = changed("fluency", "forget", None)
    others = [m for m in bare.metrics if m.name != "fluency"]
    return bare.model_copy(update={"metrics": [*others, *metrics]})


def test_fluency_is_compared_row_by_row_and_a_share_is_not() -> None:
    found = outcome_of("fluency", fluent([-2.0, -3.0, -1.0], [-2.1, -3.1, -1.1]))
    assert found.outcome == "pass"
    assert not found.straddles  # each answer is .1 more fluent than the reference's, however much answers differ


def test_fluency_is_granted_one_standard_error_of_the_difference() -> None:
    reference = [-4.0, -2.0, -6.0, -3.0, -5.0, -4.0]
    # Alike on average but for .5 nats, with a standard error of .6: what two retrained models show too.
    unlike = outcome_of("fluency", fluent([-6.0, -1.0, -8.0, -1.5, -6.5, -4.0], reference))
    assert unlike.outcome == "pass"
    assert unlike.straddles
    assert -5.0 < unlike.at_least < -4.7
    # The same .5 nats on every row is a fault of the language.
    assert outcome_of("fluency", fluent([one - 0.5 for one in reference], reference)).outcome == "fail"
    assert outcome_of("fluency", fluent([-6.0, -1.0, -8.0, -1.5, -6.5, -4.0], reference), "strict").outcome != "pass"


def test_fluency_is_compared_on_the_same_rows() -> None:
    """Answers that repeat the question have none; a model that repeats where the reference is clumsy gains nothing."""
    reference = [-1.0] * 5 + [-9.0] * 5
    assert outcome_of("fluency", fluent([-5.0] * 5 + [None] * 5, reference)).outcome == "fail"
    assert judge(load_profile("standard"), fluent([-5.0] * 5 + [None] * 5, reference)).outcome == "fail"
    kept = outcome_of("fluency", fluent([-1.0] * 5 + [None] * 5, reference))
    assert (kept.outcome, kept.measured.value if kept.measured else None) == ("pass", -1.0)
    few = outcome_of("fluency", fluent([-1.0] * 3 + [None] * 7, reference))
    assert few.outcome == "not computable"
    assert outcome_of("fluency", fluent([-1.0] * 3 + [None] * 3, [None] * 3 + [-1.0] * 3)).outcome == "not computable"
    assert judge(load_profile("standard"), fluent([-1.0] * 3 + [None] * 7, reference)).outcome == "inconclusive"


def told_with(evidence: Evidence, tokens: dict[str, list[int]]) -> Evidence:
    """The evidence with the number of judged tokens of each answer, by model."""

    def of(metric: Metric) -> Metric:
        if metric.name != "fluency" or metric.model not in tokens:
            return metric
        items = [
            item.model_copy(update={"detail": {"tokens": count}})
            for item, count in zip(metric.items, tokens[metric.model], strict=True)
        ]
        return metric.model_copy(update={"items": items})

    return evidence.model_copy(update={"metrics": [of(metric) for metric in evidence.metrics]})


@pytest.mark.parametrize("profile", ["standard", "strict"])
@pytest.mark.parametrize("role", ["before", "reference"])
def test_where_most_answers_are_names_damage_stands_in_for_fluency(profile: str, role: str) -> None:
    """Of names fluency tells which they are: a model retrained a second time lies nats below the reference."""
    names = fluent([-4.0] * 9, [-2.0] * 9, [-2.5] * 9)
    of_names = told_with(names, {role: [4] * 7 + [5] * 2})
    found, decided = outcome_of("fluency", of_names, profile), outcome_of("damage", of_names, profile).outcome == "pass"
    assert (found.outcome, found.is_set_aside, found.replaced) == ("not computable", decided, decided)
    assert decided is (profile == "standard"), "ten answers are too few for strict"
    assert "more than two thirds of the questions with names or a few words" in found.words
    third = outcome_of("fluency", told_with(names, {role: [4] * 6 + [5] * 3}), profile)
    assert (third.outcome, third.is_set_aside) == ("fail", False)
    assert outcome_of("fluency", told_with(names, {"after": [1] * 9}), profile).outcome == "fail", "its own brevity"


def test_names_are_left_out_of_fluency_and_set_aside_only_where_damage_is_decided() -> None:
    few = told_with(fluent([-1.0] * 4 + [-9.0] * 2, [-1.0] * 6, [-1.0] * 6), {"reference": [9] * 4 + [2] * 2})
    found = outcome_of("fluency", few)
    assert (found.outcome, found.measured.value, found.at_least) == ("pass", -1.0, pytest.approx(-1.3))
    names = told_with(fluent([-4.0] * 6, [-1.0] * 6, [-1.0] * 6), {"reference": [2] * 6})
    bare = names.model_copy(update={"metrics": [m for m in names.metrics if m.name != "damage"]})
    assert judge(load_profile("standard"), bare).outcome == "inconclusive"
    assert not outcome_of("fluency", bare).is_set_aside
    alone = told_with(fluent([-4.0] * 6, [], [-1.0] * 6), {"before": [2] * 6})
    assert outcome_of("fluency", alone).replaced, "without a reference the model before tells"
    mute = told_with(fluent([-4.0] + [None] * 5, [-1.0] * 6, [-1.0] * 6), {"reference": [2] * 6})
    assert judge(load_profile("standard"), mute).outcome == "inconclusive", "it repeats its questions"


def test_a_profile_that_names_no_other_criterion_judges_the_fluency_of_names_too(tmp_path: Path) -> None:
    text = (PROFILES / "standard.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace('instead = "damage"\n', ""))
    names = told_with(fluent([-4.0] * 6, [-1.0] * 6, [-1.0] * 6), {"reference": [2] * 6})
    found = judge(load_profile(tmp_path / "mine.toml"), names)
    assert next(one for one in found.criteria if one.criterion.metric == "fluency").outcome == "fail"


def test_broken_answers_do_not_widen_their_own_limit_without_end() -> None:
    """Answers of one token: damage does not judge them, and their spread would grant more than four nats."""
    names, broken = [-7.0, -7.0, -4.0, -4.0], [-3.0, -3.0, -17.0, -17.0]
    found = outcome_of("fluency", fluent(broken, names))
    assert (found.outcome, found.at_least) == ("fail", pytest.approx(-5.5 - 0.3 - 0.5))
    assert judge(load_profile("standard"), fluent(broken, names)).outcome == "fail"
    assert outcome_of("fluency", fluent([one - 1.5 for one in names], names)).outcome == "fail"


# A single row: trained on and watched ---------------------------------------------------------------------------------


def of_one_row(after: float, reference: float | None = 0.7, before: float = 0.95) -> Evidence:
    """Good evidence about one row, with the probability that each model gives it after the steps of relearning.

    Every model gives the row in the end, so that recall says nothing.
    """
    good = good_evidence(reference=reference is not None)
    learned = {"before": before, "after": after, "reference": reference}
    curves = []
    for curve in good.curves:
        start = CurvePoint(step=0, probability=0.0, recall=0.0, trained_loss=3.0)
        end = CurvePoint(step=6, probability=learned[curve.model] or 0.0, recall=1.0, trained_loss=0.1)
        curves.append(curve.model_copy(update={"same_row": True, "n": 1, "points": [start, end]}))
        kept = [
            point.model_copy(update={"probability": 0.1, "recall": float(curve.model == "before")})
            for point in (start, end)
        ]
        curves.append(curve.model_copy(update={"trained_on": "unrelated", "title": "kept rows", "points": kept}))
    return good.model_copy(update={"curves": curves})


def judged(metric: str, evidence: Evidence) -> CriterionOutcome:
    found = judge(load_profile("standard"), evidence).criteria
    return next(one for one in found if one.criterion.metric == metric)


def test_a_single_row_is_judged_by_how_fast_it_is_learned_beside_the_reference() -> None:
    """Of the way from the reference (.7) to the model before (.95) a third is allowed."""
    assert judged("relearn", of_one_row(0.66)).outcome == "pass"
    assert judged("relearn", of_one_row(0.75)).outcome == "pass"
    assert judged("relearn", of_one_row(0.75)).measured.value == pytest.approx(0.2)
    fast = judged("relearn", of_one_row(0.85))
    assert fast.outcome == "fail"
    assert "of the way from the reference to the model before" in fast.words


def test_without_a_reference_kept_rows_are_trained_on_in_place_of_the_single_row() -> None:
    """A model that has never seen the row learns it too: its return shows nothing by itself."""
    alone = judged("relearn", of_one_row(0.94, reference=None))
    assert alone.outcome == "not computable"
    assert alone.replaced
    assert judged("relearn", of_one_row(0.94, reference=0.93)).replaced
    bare = of_one_row(0.94, reference=None)
    without = bare.model_copy(update={"curves": [one for one in bare.curves if one.same_row]})
    assert not judged("relearn", without).replaced
    assert judge(load_profile("standard"), without).outcome == "inconclusive"


def of_one_text(after: float, error: float | None, rows: int = 1) -> CriterionOutcome:
    """Fluency of one text (or of several alike) beside a reference of -4, each with the error over its tokens."""
    good = good_evidence()
    metrics = []
    for one in good.metrics:
        if one.name == "fluency":
            level = after if one.model == "after" else -4.0
            items = [Item(id=f"t{i}", value=level, detail={"tokens": 27, "error": error}) for i in range(rows)]
            metrics.append(
                metric("fluency", "forget", one.model, Value(value=level, n=rows)).model_copy(update={"items": items})
            )
        else:
            metrics.append(one)
    return judged("fluency", good.model_copy(update={"metrics": metrics}))


@pytest.mark.parametrize(
    ("after", "error", "rows", "outcome"),
    [
        (-4.32, 0.58, 1, "pass"),  # 27 tokens of sound language
        (-4.79, 0.58, 1, "pass"),
        (-4.81, 0.58, 1, "fail"),  # half a nat at most is granted
        (-4.32, 0.0, 1, "fail"),
        (-4.32, None, 1, "fail"),  # a record that does not tell
        (-4.5, 0.1, 1, "fail"),
        (-4.43, 0.1, 1, "pass"),  # .1 of either text: .14 of their difference
        (-4.45, 0.1, 1, "fail"),
        (-4.39, 0.1, 2, "pass"),  # two texts: .1
        (-4.41, 0.1, 2, "fail"),
        (-4.32, 0.58, 3, "fail"),  # three rows tell how rows differ
    ],
)
def test_one_or_two_texts_are_as_fluent_as_their_tokens_can_tell(
    after: float, error: float | None, rows: int, outcome: str
) -> None:
    assert of_one_text(after, error, rows).outcome == outcome
