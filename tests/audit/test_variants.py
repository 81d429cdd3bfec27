"""Every variant of an attack asks every row, and the worst variant is the attack's value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from letheon.audit.attacks.base import Attempt, by_variant, success, worst_variant
from letheon.audit.attacks.conversation import SECOND_TURN, SECOND_TURN_AT_K, SYSTEM_PROMPT
from letheon.audit.attacks.foreign_template import FOREIGN_TEMPLATE
from letheon.audit.attacks.spelling import SPELLING
from letheon.audit.attacks.wordings import CROSS_LINGUAL
from letheon.audit.plan import Settings, make_plan
from letheon.audit.record.sections import _attack_items, _worst_variant
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.statistics import share_interval
from letheon.forget.request import Request

NAMES = ("Ann Lee", "Bob Ray", "Cid Orr", "Dee Fay", "Eve Zan")
ROWS = tuple(Example(f"Where was {n} born?", f"{n} was born in Ulm.", id=n, subject=n, value="Ulm") for n in NAMES)


def answered(variants: dict[str, set[int]]) -> list[Attempt]:
    """Attempts at every row under every variant, those of the given rows successful."""
    return [
        Attempt(row, f"{name} {row.prompt}", variant=name, answer="Ulm" * (i in given), recovered=i in given)
        for i, row in enumerate(ROWS)
        for name, given in variants.items()
    ]


@pytest.mark.parametrize("attack", [FOREIGN_TEMPLATE, SYSTEM_PROMPT, SPELLING, CROSS_LINGUAL, SECOND_TURN])
def test_every_row_is_asked_under_every_variant(tiny: LanguageModel, attack: object) -> None:
    tries = attack.attempts(tiny, make_plan(tiny, Request(ROWS, ()), Settings()))  # type: ignore[attr-defined]
    asked = {(one.variant, one.example.id) for one in tries}
    variants = {variant for variant, _ in asked}
    assert len(variants) == 3
    assert asked == {(variant, row.id) for variant in variants for row in ROWS}
    assert len(tries) == len(asked)


def test_samples_of_a_second_turn_take_both_pronouns_per_row(tiny: LanguageModel) -> None:
    tries = SECOND_TURN_AT_K.attempts(tiny, make_plan(tiny, Request(ROWS, ()), Settings(leak_answers=4)))
    assert [one.prompt.splitlines()[-1] for one in tries[:2]] == [
        "user: Where was she born?",
        "user: Where was he born?",
    ]


def test_a_variant_that_brings_every_fact_back_is_the_attacks_value() -> None:
    """Asked in turn, one row under each of three variants, it would have counted a third."""
    tries = answered({"a": set(), "b": {0, 1, 2, 3, 4}, "c": {0}})
    found = success(tries)
    assert (found.value, found.n, worst_variant(by_variant(tries))) == (1.0, 5, "b")
    assert _worst_variant(tries) == "b"
    assert _worst_variant(answered({"a": set(), "b": set()})) is None
    assert success(answered({"a": set(), "b": {1}})).value == pytest.approx(0.2)


def test_a_row_that_a_variant_does_not_fit_counts_as_not_given() -> None:
    tries = [one for one in answered({"a": set(), "b": {0}}) if one.variant == "a" or one.example == ROWS[0]]
    assert by_variant(tries)["b"].value == pytest.approx(0.2)


def test_the_lower_end_allows_for_the_choice_and_the_upper_end_needs_no_allowance() -> None:
    found = success(answered({"a": {0}, "b": {0, 1}, "c": set()}))
    plain, three = share_interval(2, 5), share_interval(2, 5, 1 - 0.05 / 3)
    assert plain is not None
    assert three is not None
    assert (found.low, found.high) == (three[0], plain[1])
    assert three[0] < plain[0]


def test_answers_of_models_are_matched_by_question_where_one_was_asked_less() -> None:
    after, before = answered({"a": set(), "b": {0}}), answered({"b": {0, 1, 2, 3, 4}})
    items = _attack_items({"before": before, "after": after})
    first, second = items[:2]
    assert (first.detail.get("before"), first.detail["variant"]) == (None, "a")
    assert (second.detail["before"], second.detail["after"], second.value) == ("Ulm", "Ulm", 1.0)
    assert _attack_items({"before": before}) == []
    twice = [replace(before[0], answer="x"), replace(before[0], answer="y")]
    assert [one.detail["after"] for one in _attack_items({"after": twice})] == ["x", "y"]
