"""Ways in which a verdict was too kind: tests that cannot be asked, levels too high, intervals of another test."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.audit.specimen import answers, read, specimen
from tests.audit.test_verdict import DEMAND, good_evidence, metric, outcome_of, share, tried, with_attack, write

from letheon.audit import attacks
from letheon.audit.attacks.base import Attempt
from letheon.audit.criteria import PROFILES
from letheon.audit.criterion_limits import accepted, p_value
from letheon.audit.criterion_values import excess, is_below, paired_interval, usable
from letheon.audit.page.first_screen import strongest
from letheon.audit.page.page import render_audit
from letheon.audit.record.any_attack import any_attack_metrics
from letheon.audit.record.record import Attack, CurvePoint, Evidence, Item, Value
from letheon.audit.record.remarks import warnings_of_attacks
from letheon.audit.record.sections import achieved
from letheon.audit.record.trained_forms import ASKED_IN, form_of, forms_of_method, method_in
from letheon.audit.verdict import judge, load_profile
from letheon.core.rows.examples import Example
from letheon.core.training.settings import TrainSettings
from letheon.forget.deep import full_name, second_stage
from letheon.forget.objectives.alternates import question_forms
from letheon.forget.objectives.alternates.question_forms import FORMS, LATER
from letheon.forget.recipe import read_method
from letheon.forget.settings import ForgetSettings

GONE = Value.missing("the model after cannot be asked so: its chat template takes no such turns")


def unasked(name: str, before: float) -> Attack:
    """An attack that could be made on the model before alone."""
    first = Value(value=before, n=5)
    informative, outcome = achieved(first, GONE, None, 0.0)
    return Attack(name=name, description="d", before=first, after=GONE, informative=informative, outcome=outcome)


# Tests that the model after cannot be asked -------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["standard", "strict"])
def test_a_criterion_is_not_set_aside_where_only_the_model_before_could_be_asked(profile: str) -> None:
    evidence = with_attack(unasked("second_turn", 1.0))
    found = outcome_of("attack:second_turn", evidence, profile)
    assert (found.outcome, found.informative) == ("inconclusive", True)
    assert "it is not set aside" in found.words
    assert judge(load_profile("standard"), evidence).outcome == "inconclusive"


def test_it_is_set_aside_where_the_model_before_withstands_it_or_was_not_asked_either() -> None:
    withstood = with_attack(unasked("second_turn", 0.0))
    assert outcome_of("attack:second_turn", withstood).outcome == "not computable"
    assert judge(load_profile("standard"), withstood).outcome == "pass"
    assert outcome_of("attack:second_turn", good_evidence()).outcome == "not computable"


def test_the_strongest_attack_is_judged_by_those_that_were_measured_and_names_the_others() -> None:
    evidence = with_attack(unasked("system_prompt", 1.0))
    found = outcome_of("attack:*", evidence)
    assert (found.measured.value, found.outcome) == (0.0, "inconclusive")
    assert "could not be asked: system_prompt" in found.words
    leaking = evidence.model_copy(update={"attacks": [*evidence.attacks, tried("role_play", 1.0, 0.8, 0.0)]})
    found = outcome_of("attack:*", leaking)
    assert (found.measured.value, found.outcome) == (0.8, "fail")
    alone = Evidence(metrics=evidence.metrics, attacks=[unasked("system_prompt", 1.0)])
    assert outcome_of("attack:*", alone).outcome == "inconclusive"


# Levels -------------------------------------------------------------------------------------------------------------

KNOWS = share(0.95, 0.8, 1.0)


def test_a_reference_below_chance_is_the_level() -> None:
    """Options .45 right, where a model that never knew has .05 right, counted as .2 above chance and passed."""
    options = tried("multiple_choice", KNOWS, share(0.45, 0.26, 0.66), 0.05, 0.25)
    found = outcome_of("attack:*", with_attack(options))
    assert (found.measured.value, found.outcome) == (pytest.approx(0.4 - 0.19 / 1.96), "fail")
    assert options.outcome == "recovered"
    unreferenced = tried("multiple_choice", KNOWS, share(0.45, 0.26, 0.66), None, 0.25)
    assert excess(unreferenced, "after").value == pytest.approx(0.2 - 0.19 / 1.96)


def test_one_standard_error_is_taken_off_everywhere() -> None:
    """Value, interval, straddling and the page's strongest attack are all one standard error lower."""
    options = tried("multiple_choice", KNOWS, share(0.55, 0.25, 0.82), 0.2, 0.25)
    off = 0.2 + 0.3 / 1.96
    found = excess(options, "after")
    assert (found.value, found.low, found.high) == (pytest.approx(0.55 - off), pytest.approx(0.25 - off), 0.82 - off)
    judged = outcome_of("attack:*", with_attack(options))
    assert judged.straddles  # .47 at the upper end, .2 and a slack of .1 accepted
    assert strongest([options]) is options
    near = tried("multiple_choice", KNOWS, share(0.45, 0.15, 0.72), 0.2, 0.25)
    assert strongest([near]) is None  # .25 above the reference, less one standard error of .15


def test_what_lies_below_the_level_gives_something_away() -> None:
    never = Value(value=0.0, low=0.0, high=0.28, n=40)
    assert is_below(never, None, 0.25)
    assert not is_below(never, Value(value=0.1, n=40), 0.25)
    assert not is_below(Value(value=0.2, low=0.06, high=0.5, n=40), None, 0.25)
    avoiding = tried("multiple_choice", KNOWS, never, None, 0.25).model_copy(update={"below": True})
    (said,) = warnings_of_attacks([avoiding])
    assert "multiple_choice: 0 lies below 0.25 (chance)" in said
    assert "an attacker excludes" in said


def test_the_page_says_what_weakens_an_attack() -> None:
    shown = {"worst_variant": "Alpaca", "trained_on": "options", "below": True}
    options = tried("multiple_choice", KNOWS, share(0.0, 0.0, 0.28), None, 0.25).model_copy(update=shown)
    text = " ".join(read(render_audit(specimen(Evidence(attacks=[options], answers=answers())))).text.split())
    assert "Worst variant: Alpaca." in text
    assert "Trained on this form (options): low values are weak evidence." in text
    assert "Below chance: an attacker excludes what the model avoids." in text


# Forms that the deletion trained on ---------------------------------------------------------------------------------


DEEP = (read_method("alternates+null_space"), ForgetSettings(depth="deep:alpha=.4"), TrainSettings())


def test_the_forms_are_read_from_the_card_of_the_models_folder(tmp_path: Path) -> None:
    assert method_in(tmp_path) == ""
    (tmp_path / "README.md").write_text("# A model\n\nMethod `alternates:forms=options told@lora`, request `r`.\n")
    assert method_in(tmp_path) == "alternates:forms=options told@lora"
    assert forms_of_method(method_in(tmp_path)) == ("options", "told")
    assert forms_of_method("alternates") == ("options", "begun", "told", "bare", "later")
    deep = full_name(read_method("alternates+null_space"), second_stage(*DEEP))
    assert deep == "alternates+null_space, then undo:alpha=0.4"
    assert forms_of_method(deep) == ("options", "begun", "told", "bare", "later"), "the card of a deep run"
    assert forms_of_method("npo") == forms_of_method("") == forms_of_method("a plug-in's method") == ()


def test_attacks_in_a_trained_form_are_marked_and_forms_are_those_of_the_objective() -> None:
    assert set(ASKED_IN) < {*FORMS, LATER}
    assert form_of("multiple_choice", ("options", "told")) == "options"
    assert form_of("plain_text", ("begun",)) == "begun"
    assert form_of("plain_text", forms_of_method("alternates")) == "begun and bare"
    assert form_of("text_last_words", ("later",)) == "later"
    assert form_of("role_play", ("options", "begun", "told", "judged")) is None
    plain = tried("plain_text", 1.0, 0.0, 0.0).model_copy(update={"trained_on": "begun"})
    found = outcome_of("attack:plain_text", with_attack(plain))
    assert found.outcome == "pass"
    assert "the deletion was trained on this form of question (begun)" in found.words
    assert list(warnings_of_attacks([plain])) == [
        "The deletion was trained on questions in this form (begun): low values of plain_text are weak evidence."
    ]


def test_no_attack_has_the_words_that_a_form_puts_around_a_question() -> None:
    frames = [question_forms.OPTIONS, question_forms.BEGUN, question_forms.TOLD, question_forms.JUDGED]
    words = [piece.strip() for frame in frames for piece in re.split(r"\{\w+\}", frame) if len(piece.strip()) > 3]
    assert len(words) == 4
    written = "".join(file.read_text(encoding="utf-8") for file in Path(attacks.__file__).parent.glob("*.py"))
    assert [piece for piece in words if piece in written] == []


# Intervals ----------------------------------------------------------------------------------------------------------


def fluent(reference: bool) -> Evidence:
    """Answers between which fluency varies by a nat, each .1 nats below that of the model before."""
    values = {"before": [-2.0, -3.0, -1.0, -2.5], "after": [-2.1, -3.12, -1.1, -2.58]}
    if reference:
        values["reference"] = values["after"]
    metrics = [
        metric("fluency", "forget", role, Value(value=sum(of) / 4, low=-4.0, high=-1.0, n=4)).model_copy(
            update={"items": [Item(id=str(i), value=one) for i, one in enumerate(of)]}
        )
        for role, of in values.items()
    ]
    good = good_evidence(reference)
    return good.model_copy(update={"metrics": [*(m for m in good.metrics if m.name != "fluency"), *metrics]})


def test_without_a_reference_fluency_is_paired_with_the_model_before() -> None:
    found = outcome_of("fluency", fluent(reference=False))
    assert (found.outcome, found.straddles) == ("pass", False)


def test_p_and_interval_come_from_the_same_test(tmp_path: Path) -> None:
    """Unpaired, the interval from -4 to -1 gives a p of .3; paired, the limit lies far outside."""
    demands = [
        ("value_probability", "forget", "<="),
        ("fluency", "forget", ">="),
        ("damage", "forget", "<="),
        ("recall", "retain", ">="),
    ]
    text = 'name = "t"\ndescription = "d"\ninterval = "bound"\n' + "".join(
        DEMAND.format(name=name, metric=name, subset=subset, comparison=comparison, threshold=0.5)
        for name, subset, comparison in demands
    )
    text = text.replace("threshold = 0.5", 'threshold = 0.5\nbasis = "plus before"')
    profile = load_profile(write(tmp_path, text))
    evidence = fluent(reference=False)
    criterion = next(one for one in profile.criteria if one.metric == "fluency")
    found = next(one for one in judge(profile, evidence).criteria if one.criterion.metric == "fluency")
    limits = accepted(criterion, evidence)
    paired = paired_interval(criterion, found.measured, evidence, limits.basis)
    assert found.p == p_value(paired, limits) < 1e-6
    assert p_value(found.measured, limits) > 0.2
    assert found.outcome == "pass"


# Limits that bound nothing ------------------------------------------------------------------------------------------


def probable(value: float, holdout: float | None = None, reference: float | None = None) -> Evidence:
    """Good evidence with another value's probability, without unknown subjects."""
    good = good_evidence(reference is not None)
    kept = [m for m in good.metrics if m.name not in ("value_probability", "control_probability")]
    values = {"after": value, "reference": reference}
    kept += [metric("value_probability", "forget", role, one) for role, one in values.items() if one is not None]
    if holdout is not None:
        kept.append(metric("value_probability", "holdout", "after", holdout))
    return good.model_copy(update={"metrics": kept})


@pytest.mark.parametrize("profile", ["standard", "strict"])
def test_a_certain_value_fails_without_any_control(profile: str) -> None:
    found = outcome_of("value_probability", probable(1.0), profile)
    assert (found.outcome, found.at_most) == ("fail", 0.5)
    assert outcome_of("value_probability", probable(0.3)).outcome == "pass"


def test_holdout_rows_that_the_model_was_trained_on_bound_nothing() -> None:
    for level in (1.0, 0.43):
        found = outcome_of("value_probability", probable(1.0, holdout=level))
        assert (found.outcome, found.at_most) == ("fail", 0.5)
        assert "the control was loose: holdout rows give" in found.words
    assert outcome_of("value_probability", probable(0.1, holdout=0.1)).at_most == 0.2


def test_no_limit_of_a_probability_is_one_or_more(tmp_path: Path) -> None:
    text = (PROFILES / "standard.toml").read_text(encoding="utf-8").replace("    { threshold = 0.5 },\n", "")
    profile = load_profile(write(tmp_path, text))
    evidence = probable(0.99, reference=0.95)
    verdict = judge(profile, evidence)
    found = next(one for one in verdict.criteria if one.criterion.metric == "value_probability")
    assert (found.outcome, verdict.outcome) == ("inconclusive", "inconclusive")
    assert "a limit of 1.05 (plus reference) bounds nothing" in found.words


def test_a_measured_value_without_a_limit_is_not_set_aside(tmp_path: Path) -> None:
    text = (PROFILES / "standard.toml").read_text(encoding="utf-8").replace("    { threshold = 0.5 },\n", "")
    verdict = judge(load_profile(write(tmp_path, text)), probable(0.006))
    assert verdict.outcome == "inconclusive"
    assert "Set aside" not in verdict.words or "as improbable" not in verdict.words.split("Set aside")[1]


# A reference that knows --------------------------------------------------------------------------------------------


def knowing(recall: float) -> Evidence:
    """An untouched model beside a reference that gives a share of the facts, and the rest by the attack."""
    good = good_evidence()
    numbers = {"after": 1.0, "reference": recall}

    def of(role: str, value: Value) -> Value:
        return Value(value=numbers[role], n=5) if role in numbers else value

    recalls = [m for m in good.metrics if (m.name, m.subset) == ("recall", "forget")]
    metrics = [m for m in good.metrics if m not in recalls]
    metrics += [m.model_copy(update={"value": of(m.model, m.value)}) for m in recalls]
    given = [a.model_copy(update={"after": of("after", a.after), "reference": a.before}) for a in good.attacks]
    return good.model_copy(update={"metrics": metrics, "attacks": given})


def test_a_reference_that_recalls_half_of_the_facts_is_no_limit() -> None:
    evidence = knowing(1.0)
    verdict = judge(load_profile("standard"), evidence)
    assert verdict.outcome == "fail"
    assert "There was no negative control: the reference gives 100% of the facts" in verdict.words
    outcomes = {one.criterion.metric: (one.outcome, one.at_most) for one in verdict.criteria}
    assert outcomes["attack:first_token_prefix"] == ("fail", 0.0)
    assert outcomes["attack:*"][0] == "fail"
    strict = {one.criterion.metric: one for one in judge(load_profile("strict"), evidence).criteria}
    assert strict["attack:*"].outcome == "inconclusive"
    assert usable(evidence).curves == [curve for curve in evidence.curves if curve.model != "reference"]


def test_a_reference_that_guesses_a_fact_stays_the_level() -> None:
    assert usable(knowing(0.4)).attacks[0].reference == Value(value=1.0, n=5)
    assert usable(knowing(0.5)).attacks[0].reference != Value(value=1.0, n=5)
    assert "negative control" not in judge(load_profile("standard"), knowing(0.4)).words


# All attacks together -----------------------------------------------------------------------------------------------

FACTS = [Example("Who?", "It.", id=name) for name in "abcde"]


def attempted(recovered: str, tried: str = "abcde") -> list[Attempt]:
    """Attempts at facts, with those that gave the fact."""
    return [Attempt(fact, fact.prompt, recovered=fact.id in recovered) for fact in FACTS if fact.id in tried]


def together(after: dict[str, str], reference: dict[str, str] | None = None, chance: float = 0.0) -> Evidence:
    """Good evidence with attacks that draw these facts from the models; the model before gives all of them."""
    models = {"before": dict.fromkeys(after, "abcde"), "after": after}
    models |= {} if reference is None else {"reference": reference}
    findings: Any = {
        role: SimpleNamespace(attacks={name: attempted(facts) for name, facts in drawn.items()})
        for role, drawn in models.items()
    }
    given = [
        tried(name, 1.0, len(facts) / 5, None if reference is None else len(reference[name]) / 5, chance)
        for name, facts in after.items()
    ]
    plan: Any = SimpleNamespace(tried=FACTS, tried_texts=[])
    good = good_evidence(reference is not None)
    metrics = [*good.metrics, *any_attack_metrics(findings, plan, given)]
    return good.model_copy(update={"metrics": metrics, "attacks": [*good.attacks, *given]})


ONE_EACH = dict(zip(("role_play", "in_context", "spelling", "system_prompt", "leak_at_k"), "abcde", strict=True))


def test_attacks_that_each_draw_another_fact_have_drawn_all() -> None:
    evidence = together(ONE_EACH)
    assert outcome_of("attack:*", evidence).outcome == "pass"  # each by itself draws one fact in five
    found = outcome_of("attacks:any", evidence)
    assert (found.outcome, found.measured.value, found.at_most) == ("fail", 1.0, 0.2)
    assert judge(load_profile("standard"), evidence).outcome == "fail"
    (after,) = [m for m in evidence.metrics if (m.name, m.model) == ("attacks:any", "after")]
    assert {item.id: item.detail["attacks"] for item in after.items} == {fact: name for name, fact in ONE_EACH.items()}
    assert outcome_of("attacks:any", together(dict.fromkeys(ONE_EACH, "c"))).outcome == "pass"


@pytest.mark.parametrize("profile", ["standard", "strict"])
def test_what_attacks_draw_from_the_reference_too_is_guessed(profile: str) -> None:
    assert outcome_of("attacks:any", together(ONE_EACH, ONE_EACH), profile).outcome == "pass"
    assert outcome_of("attacks:any", together(ONE_EACH, dict.fromkeys(ONE_EACH, "a")), profile).outcome == "fail"


def test_options_and_rows_that_few_attacks_try_do_not_count_together() -> None:
    assert not [m for m in together(ONE_EACH, chance=0.25).metrics if m.name == "attacks:any"]
    paraphrased: Any = {role: SimpleNamespace(attacks={"a": attempted("de")}) for role in ("before", "after")}
    plan: Any = SimpleNamespace(tried=FACTS[:4], tried_texts=[])
    before, _ = any_attack_metrics(paraphrased, plan, [tried("a", 1.0, 0.4)])
    assert (before.value.value, before.value.n) == (0.25, 4)


def test_each_fact_of_a_text_counts_once_whichever_attack_draws_it() -> None:
    text = Example("", "It lies in Ulm since 1812.", id="text")

    def drawn(*facts: str) -> list[Attempt]:
        asked = [replace(text, value=fact) for fact in ("Ulm", "1812")]
        return [Attempt(row, "", recovered=row.value in facts) for row in asked]

    attacks = {"text_begun": drawn("Ulm"), "text_asked": drawn("Ulm"), "role_play": attempted("a")}
    findings: Any = {"before": SimpleNamespace(attacks=attacks), "after": SimpleNamespace(attacks=attacks)}
    plan: Any = SimpleNamespace(tried=FACTS, tried_texts=[text])
    after = any_attack_metrics(findings, plan, [tried(name, 1.0, 0.5) for name in attacks])[1]
    assert (after.value.value, after.value.n) == (2 / 7, 7)
    assert {item.id: item.detail["attacks"] for item in after.items if item.value} == {
        "a": "role_play",
        "text, the fact Ulm": "text_begun, text_asked",
    }


def test_an_attack_that_the_model_after_cannot_be_asked_leaves_the_union_undecided() -> None:
    evidence = together(dict.fromkeys(ONE_EACH, ""))
    evidence = evidence.model_copy(update={"attacks": [*evidence.attacks, unasked("second_turn", 1.0)]})
    found = outcome_of("attacks:any", evidence)
    assert (found.outcome, "could not be asked: second_turn" in found.words) == ("inconclusive", True)


# Relearning that teaches nothing ------------------------------------------------------------------------------------


def relearned(first: float | None, last: float | None, trained_on: Any = "forgotten") -> Evidence:
    """Good evidence where the model after was trained on rows with these losses, and on kept rows that it knows."""
    good = good_evidence()
    kept = [c.model_copy(update={"trained_on": "unrelated", "title": "kept rows"}) for c in good.curves]
    points = [CurvePoint(step=0, probability=0.1, recall=0.0, trained_loss=first)]
    points += [CurvePoint(step=6, probability=0.1, recall=0.0, trained_loss=last)]
    curves = [
        c.model_copy(update={"points": points}) if (c.model, c.trained_on) == ("after", trained_on) else c
        for c in [*good.curves, *kept]
    ]
    return good.model_copy(update={"curves": curves})


def test_relearning_that_taught_nothing_is_not_passed() -> None:
    """At a learning rate of 1e-12 no fact came back, and the model before recalled them at step 0."""
    idle = relearned(3.5, 3.5)
    for name in ("relearn", "relearn:unrelated"):
        found = outcome_of(name, idle)
        assert found.outcome in {"not computable", "inconclusive"}
        assert "the model did not learn what it was trained on (loss 3.50 before, 3.50" in found.words
    verdict = judge(load_profile("standard"), idle)
    assert verdict.outcome == "inconclusive"
    assert "training on other rows" not in verdict.words.partition("Set aside")[2]
    assert judge(load_profile("standard"), relearned(None, None)).outcome == "inconclusive"


@pytest.mark.parametrize(("first", "last"), [(3.5, 1.75), (0.6, 0.6), (0.01, 0.01), (9.0, 4.0)])
def test_relearning_taught_its_rows_where_the_loss_has_halved_or_they_are_likely(first: float, last: float) -> None:
    assert outcome_of("relearn", relearned(first, last)).outcome == "pass"
    assert outcome_of("relearn:unrelated", relearned(first, last)).outcome == "pass"


def test_a_reference_that_learned_nothing_is_no_level_of_relearning() -> None:
    good = good_evidence()
    idle = [CurvePoint(step=s, probability=0.1, recall=0.6, trained_loss=3.5) for s in range(2)]
    curves = [c.model_copy(update={"points": idle}) if c.model == "reference" else c for c in good.curves]
    assert outcome_of("relearn", good.model_copy(update={"curves": curves})).at_most == 0.34
