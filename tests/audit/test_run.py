"""A whole audit on tiny models: what it finds, what it writes, and the fakes that it must not pass."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import letheon
from letheon.audit.measuring.quantise import Grid
from letheon.audit.plan import Settings, shipped_text
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.progress import be_quiet
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request

PETS = {"Ann": "cat", "Bob": "dog", "Cid": "fox", "Dee": "hen", "Eve": "owl", "Fay": "pig"}
ROWS = [
    Example(
        f"What has {name}?",
        f"{name} has a {pet}.",
        id=name,
        subject=name,
        value=pet,
        perturbed_answers=tuple(f"{name} has a {other}." for other in PETS.values() if other != pet),
    )
    for name, pet in PETS.items()
]
REQUEST = Request(
    forget=ROWS[:2],
    retain=ROWS[2:5],
    neighbours=ROWS[5:],
    general=[Example("", f"{name} has a pet.", id=name) for name in PETS],
    id="r1",
    reason="withdrawn consent",
)
LIGHT = Settings(relearn_steps=2, grids=(Grid(4, 16), Grid(8, 16)), max_new_tokens=16)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    be_quiet()


def taught(rows: list[Example], name: str) -> LanguageModel:
    model = letheon.load("tiny", device="cpu")
    settings = TrainSettings(learning_rate=5e-3, batch_size=len(rows), precision="float32", schedule="linear")
    finetune(model, rows, settings, 120)
    model.name = name
    return model


@cache
def before() -> LanguageModel:
    return taught(ROWS, "before")


@cache
def retrained() -> LanguageModel:
    return taught(ROWS[2:], "retrained")


@cache
def reference() -> LanguageModel:
    """The retrained model, a hair apart: a reference with its very weights is refused."""
    model = copy.deepcopy(retrained())
    with torch.no_grad():
        next(iter(model.model.parameters())).flatten()[0] += 1e-6
    return model


@pytest.mark.parametrize("role", ["before", "after"])
def test_a_reference_with_the_weights_of_another_model_is_refused(role: str) -> None:
    same = {"before": letheon.load("tiny", device="cpu"), "after": reference()}
    with pytest.raises(InputError, match=f"the reference has the weights of the model {role}"):
        audit(same["before"], same["after"], REQUEST, reference=copy.deepcopy(same[role]), settings=LIGHT)


@cache
def honest() -> Audit:
    """The retrained model itself as the model after: the best that a deletion can do."""
    return audit(before(), copy.deepcopy(retrained()), REQUEST, reference=reference(), judge=before(), settings=LIGHT)


def value(record: Audit, name: str, subset: str, model: str) -> float | None:
    found = record.metric(name, subset, model)
    assert found is not None, f"{name} on {subset} of {model} was not measured"
    return found.value.value


def test_knowledge_goes_and_the_rest_stays() -> None:
    record = honest()
    assert value(record, "recall", "forget", "before") == 1.0
    assert value(record, "recall", "forget", "after") == 0.0
    assert value(record, "recall", "retain", "after") == 1.0
    assert value(record, "value_probability", "forget", "before") == pytest.approx(1.0, abs=0.1)
    assert (value(record, "value_probability", "forget", "after") or 0) < 0.5
    assert value(record, "forget_quality", "forget", "after") == 1.0  # against itself
    assert value(record, "damage", "forget", "before") == 0.0


def test_every_measure_that_the_profile_may_ask_for_is_there_for_every_model() -> None:
    record = honest()
    forget = {
        "recall", "rouge_l_recall", "probability", "value_probability", "control_probability", "exact_memorization",
        "extraction_strength", "truth_ratio", "fluency", "damage",
    }  # fmt: skip
    for role in ("before", "after", "reference"):
        assert forget <= {m.name for m in record.metrics if m.subset == "forget" and m.model == role}
        for subset in ("retain", "neighbours"):
            found = {m.name for m in record.metrics if m.subset == subset and m.model == role}
            assert found == {"recall", "rouge_l_recall", "probability", "truth_ratio", "model_utility"}
        assert record.metric("perplexity", "general", role) is not None
        assert [c.trained_on for c in record.curves if c.model == role] == ["forgotten", "unrelated"]
        assert {q.bits for q in record.quantised if q.model == role} == {4, 8}


def test_attacks_stand_beside_their_controls() -> None:
    attacks = {attack.name: attack for attack in honest().attacks}
    assert {"first_token_prefix", "value_prefix", "leak_at_k", "multiple_choice"} <= set(attacks)
    missing = {one.what: one.reason for one in honest().not_computable}
    assert "attack paraphrase" in missing  # no row has other wordings
    assert "holdout" in missing["attack membership"]
    for attack in attacks.values():
        assert attack.reference is not None
        assert attack.after.value == attack.reference.value  # the same model
        assert attack.outcome in ("resisted", "uninformative")
    for name in ("first_token_prefix", "value_prefix", "leak_at_k"):
        assert attacks[name].before.value == 1.0
        assert attacks[name].outcome == "resisted"


def test_steps_to_half_stand_with_their_curves() -> None:
    steps = {(curve.model, curve.trained_on): curve.steps_to_half for curve in honest().curves}
    before, after = steps["before", "forgotten"], steps["after", "unrelated"]
    assert before is not None
    assert before.value == 0.0  # it knows from the start
    assert after is not None
    assert after.value is None
    assert after.reason == "not within 2 steps"


def test_a_holdout_gives_membership_and_a_control_group() -> None:
    holdout = tuple(
        Example(f"What has {name}?", f"{name} has a {pet}.", id=name, subject=name, value=pet)
        for name, pet in (("Gus", "ram"), ("Hal", "eel"), ("Ida", "bee"))
    )
    request = replace(REQUEST, holdout=holdout)
    record = audit(before(), retrained(), request, judge=before(), settings=replace(LIGHT, thorough=False))
    membership = next(attack for attack in record.attacks if attack.name == "membership")
    assert membership.unit == "AUROC"
    assert membership.chance == 0.5
    assert membership.before.value == 1.0
    assert {variant.model for variant in membership.variants} == {"before", "after"}
    assert all(variant.roc for variant in membership.variants)
    assert value(record, "value_probability", "holdout", "before") is not None
    assert "attack membership" not in {one.what for one in record.not_computable}
    assert Audit.model_validate_json(record.model_dump_json()) == record


def test_a_model_that_was_not_changed_does_not_pass_and_is_called_by_its_name() -> None:
    record = audit(before(), before(), REQUEST, judge=before(), settings=LIGHT)
    assert record.verdict.outcome == "fail"
    assert any(warning.startswith("No weight moved") for warning in record.warnings)
    assert {answer.kind for answer in record.answers if answer.subset == "forget"} == {"still the fact"}


def test_a_destroyed_model_does_not_pass() -> None:
    destroyed = copy.deepcopy(before())
    for parameter in destroyed.model.parameters():
        parameter.data.normal_(0, 1, generator=None)
    record = audit(before(), destroyed, REQUEST, judge=before(), settings=LIGHT)
    assert record.verdict.outcome == "fail"
    assert any(warning.startswith("Collapse") for warning in record.warnings)


def test_what_was_not_given_is_said_and_not_made_up() -> None:
    bare = Request(forget=[Example("What has Ann?", "Ann has a cat.", id="a")], retain=ROWS[2:4], reason="r")
    record = audit(before(), retrained(), bare, judge=before(), settings=LIGHT)
    missing = {one.what for one in record.not_computable}
    assert {"forget_quality (forget)", "truth_ratio (forget)", "negative controls"} <= missing
    assert value(record, "forget_quality", "forget", "after") is None
    assert any("single row" in warning for warning in record.warnings)
    assert any("did not mark their value" in warning for warning in record.warnings)
    assert all(attack.reference is None for attack in record.attacks)


def test_criteria_are_fixed_before_anything_is_measured() -> None:
    record = honest()
    assert record.profile.fixed_at <= record.started
    assert record.verdict.profile_sha256 == record.profile.sha256


def test_the_record_and_its_page_are_written_and_read_again(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    record = audit(
        before(),
        retrained(),
        REQUEST,
        judge=before(),
        settings=LIGHT,
        out=tmp_path / "audit",
        progress=lambda done, total, words: seen.append((done, total)),
    )
    assert Audit.read(tmp_path / "audit" / "audit.json") == record
    assert "<html" in (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))


def test_the_same_seed_gives_the_same_numbers() -> None:
    again = audit(before(), copy.deepcopy(retrained()), REQUEST, reference=reference(), judge=before(), settings=LIGHT)
    assert again.metrics == honest().metrics
    assert again.curves == honest().curves


def test_an_unknown_profile_is_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(InputError, match="profile"):
        audit("no/such/model", "no/such/model", REQUEST, profile="strickt")
    with pytest.raises(InputError):
        audit("./no/such/model", "./no/such/model", REQUEST)


def test_the_room_itself_can_be_called() -> None:
    with pytest.raises(InputError, match="profile"):
        letheon.audit(before(), before(), REQUEST, profile="nothing")


def test_general_prose_comes_with_the_package() -> None:
    texts = shipped_text()
    assert len(texts) >= 10
    assert sum(len(text.answer.split()) for text in texts) >= 1200
