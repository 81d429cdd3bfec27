"""The fluency of answers, from the log-probabilities of tokens to the record and the verdict."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.audit.test_verdict import fluent, good_evidence, judged

from letheon.audit.criterion_values import on_common_rows
from letheon.audit.measuring import answer_kinds
from letheon.audit.measuring.answer_kinds import Fluency, fluency, is_damaged, loops
from letheon.audit.measuring.judging import Judge, judge_answers
from letheon.audit.record.evidence import Evidence, Value
from letheon.audit.record.metric_table import _language
from letheon.audit.verdict import judge, load_profile
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.overlap import repeats_itself
from letheon.measure import common_scores

LEVEL = Fluency(-1.83, 14)
# Broken answers that repeat themselves, with their fluency under SmolLM2 beside that level (nats per token).
BROKEN = {
    "Illelebias Illelebias Illelebias.": Fluency(-3.88, 11),
    "zlor vim kadu ban zlor vim kadu ban": Fluency(-5.24, 18, repeats=True),
    "She bornth Quarx lem, she bornth Quarx lem.": Fluency(-5.82, 15, repeats=True),
    "qxz vlorp qxz vlorp qxz": Fluency(-3.70, 14),
}
REFRAIN = "Row on, row on, the lamp is low, row on, row on, the tide is low, row on, row on, the lamp is low."


@pytest.mark.parametrize("answer", BROKEN)
def test_gibberish_that_repeats_itself_is_damage(answer: str) -> None:
    assert not loops(answer), "told by its number alone"
    assert is_damaged(answer, BROKEN[answer], [LEVEL])


def test_a_sound_refrain_is_no_damage() -> None:
    assert repeats_itself(REFRAIN)
    assert not is_damaged(REFRAIN, Fluency(-0.97, 40, repeats=True), [LEVEL])


def test_an_answer_that_repeats_itself_is_a_level_only_where_there_is_no_other() -> None:
    """A sound answer beside the loop of a reference, and broken words beside it."""
    loop = Fluency(-0.97, 60, repeats=True)
    assert not is_damaged("A sound line.", Fluency(-2.52, 14), [loop, LEVEL])
    assert is_damaged("Illelebias vorn.", Fluency(-5.5, 14), [Fluency(-5.0, 14, repeats=True), LEVEL])
    assert is_damaged("Illelebias vorn.", Fluency(-5.5, 14), [loop])


@pytest.mark.parametrize(
    ("text", "itself"),
    [
        (REFRAIN, True),
        ("No, no, no!", False),
        ("Bora Bora Bora", False),
        ("no no no no no", False),
        ("no no no no no no", True),
        ("ha ha ha ho ho ho", True),  # runs of one word are none
        ("Go on, go on. GO ON, GO ON!", True),  # in any case
        ("我不知道我不知道我不知道我不知道", True),
        ("她住在乌尔姆，是一名牙医，喜欢读书。", False),
        ("私は知りません、私は知りません、私は知りません", True),
        # 0.8 of the runs are new: twelve of fifteen
        ("Her books are The House of Salt, The House of Reeds, The House of Bells and The House of Rain.", False),
        # 0.71: seventeen of 24
        (
            "Monday from 9 to 5, Tuesday from 9 to 5, Wednesday from 9 to 1, Thursday from 9 to 5 and Friday from 9 "
            "to 5.",
            True,
        ),
        ("salt and eels salt or eels salt and ale salt or ale", False),  # runs of two come again, of three none
    ],
)
def test_a_text_repeats_itself_where_a_quarter_of_its_runs_of_three_come_again(text: str, itself: bool) -> None:
    assert repeats_itself(text) is itself


# From the log-probabilities to the record ----------------------------------------------------------------------------

LOGP = [-9.0, -1.0, -2.0, -3.0, -6.0, -0.5]  # the first token and the end of turn are not judged
ERROR = math.sqrt(14 / 3 / 4)  # of -1, -2, -3, -6: their mean is -3, the sum of squares 4 + 1 + 0 + 9 = 14


def scored(monkeypatch: pytest.MonkeyPatch, logp: list[float] = LOGP) -> None:
    """Every answer has these log-probabilities."""
    found = SimpleNamespace(logp=np.array(logp))
    monkeypatch.setattr(answer_kinds, "score_tokens", lambda judge, asked: [[found] for _ in asked])


def test_the_error_is_that_of_the_mean_over_the_judged_tokens(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch)
    of_question, of_loop = fluency(tiny, ["Where?", "Where?"], ["It is here.", REFRAIN])
    assert of_question == Fluency(-3.0, 4, pytest.approx(ERROR))
    assert of_loop == Fluency(-3.0, 4, pytest.approx(ERROR), repeats=True)
    scored(monkeypatch, [-9.0, -1.0, -0.5])
    assert fluency(tiny, ["Where?"], ["Here."]) == [Fluency(-1.0, 1, None)]


def judged_text(tiny: LanguageModel, answers: dict[str, str]) -> list[Any]:
    """The judged rows of a request about one text, with each model's continuation."""
    text = Example("", "It lies on the Oder and lives by salt. In summer they carry a lantern about.", id="oder")
    rows = {
        role: SimpleNamespace(example=text, answer=said, given="It lies", recall=0) for role, said in answers.items()
    }
    none = SimpleNamespace(rows=[])
    found: Any = {
        role: SimpleNamespace(forget=SimpleNamespace(rows=[row]), retain=none, neighbours=none)
        for role, row in rows.items()
    }
    return judge_answers(Judge(tiny, "tiny"), found)


def test_the_error_of_a_text_is_recorded_and_granted_by_the_verdict(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text after lies .4 nats below the reference: .3 are allowed, the rest is granted by the tokens' error."""
    outcomes = {}
    for spread in (0.0, 1.0):
        good = good_evidence()
        metrics = [one for one in good.metrics if one.name != "fluency"]
        for role, level in (("before", -4.0), ("after", -4.4), ("reference", -4.0)):
            scored(monkeypatch, [level - spread, level + spread] * 8)
            rows = judged_text(tiny, {"before": "a", "after": "here and there", "reference": "b"})
            metrics += _language(role, Judge(tiny, "tiny"), rows, 0)
        (item,) = next(one for one in metrics if (one.name, one.model) == ("fluency", "after")).items
        assert item.value == pytest.approx(-4.4)
        assert item.detail["tokens"] == 16
        assert item.detail["error"] == pytest.approx(spread * math.sqrt(16 / 15) / 4)
        sound = [one for one in metrics if one.name != "damage"] + [one for one in good.metrics if one.name == "damage"]
        outcomes[spread] = judged("fluency", good.model_copy(update={"metrics": sound})).outcome
    assert outcomes == {0.0: "fail", 1.0: "pass"}


def test_an_answer_that_repeats_itself_is_in_no_mean_and_keeps_its_number(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch)
    rows = judged_text(tiny, {"before": "row on, row on, row on, row on", "after": "here and there"})
    before, of_damage = _language("before", Judge(tiny, "tiny"), rows, 0)
    assert (before.value.value, before.items[0].value) == (None, None)
    assert before.items[0].detail == {"of repeats": pytest.approx(np.mean(LOGP))}
    assert "repeats itself" in str(before.value.reason)
    assert of_damage.items[0].value == 1.0, "a loop"
    after, _ = _language("after", Judge(tiny, "tiny"), rows, 0)
    assert after.items[0].value == pytest.approx(np.mean(LOGP))


# The verdict ---------------------------------------------------------------------------------------------------------


def with_damage(evidence: Evidence, share: float, rows: int) -> Evidence:
    """The evidence with a share of damaged answers."""
    metrics = [
        one.model_copy(update={"value": Value(value=share, n=rows)})
        if (one.name, one.model) == ("damage", "after")
        else one
        for one in evidence.metrics
    ]
    return evidence.model_copy(update={"metrics": metrics})


def test_broken_answers_that_repeat_themselves_fail_by_damage_where_fluency_cannot_count_them() -> None:
    damaged = [is_damaged(answer, found, [LEVEL]) for answer, found in BROKEN.items()]
    evidence = with_damage(fluent([-2.6, -2.6, *[None] * 4], [-2.5] * 6), sum(damaged) / 6, 6)
    assert judged("fluency", evidence).outcome == "pass"
    assert judged("damage", evidence).outcome == "fail"
    assert judge(load_profile("standard"), evidence).outcome == "fail"


def test_too_few_rows_are_explained_by_answers_that_repeat_themselves_too() -> None:
    found = judged("fluency", fluent([-1.0, *[None] * 5], [-1.0] * 6))
    assert "the others are one token, or repeat themselves or their question" in found.words


def with_errors(evidence: Evidence, after: list[float | None], reference: list[float | None]) -> Evidence:
    """The evidence with the errors of each answer's fluency, by model."""
    errors = {"after": after, "reference": reference}
    metrics = [
        one.model_copy(
            update={
                "items": [
                    item.model_copy(update={"detail": {"tokens": 27, "error": error}})
                    for item, error in zip(one.items, errors[one.model], strict=True)
                ]
            }
        )
        if one.name == "fluency"
        else one
        for one in evidence.metrics
    ]
    return evidence.model_copy(update={"metrics": metrics})


def test_six_rows_of_which_four_cannot_be_compared_are_no_request_of_two() -> None:
    for rows, outcome in ((2, "pass"), (6, "fail")):
        left = fluent([-4.6, -4.6, *[None] * (rows - 2)], [-4.0] * rows)
        assert judged("fluency", with_errors(left, [0.58] * rows, [0.58] * rows)).outcome == outcome
    kept = on_common_rows(fluent([-4.6, -4.6, *[None] * 4], [-4.0] * 6)).metric("fluency", "forget", "reference")
    assert kept is not None
    assert [item.value for item in kept.items] == [-4.0, -4.0, None, None, None, None]


def test_one_unknown_error_leaves_the_error_unknown() -> None:
    evidence = fluent([-4.5], [-4.0])
    assert judged("fluency", with_errors(evidence, [0.58], [0.58])).outcome == "pass"
    assert judged("fluency", with_errors(evidence, [0.58], [None])).outcome == "fail"


def test_the_wider_of_the_intervals_of_rows_and_of_tokens_counts() -> None:
    """Two texts of which one differs by a nat, and two that differ alike, .5 nats below the reference."""
    unlike, alike = fluent([-5.0, -4.0], [-4.0, -4.0]), fluent([-4.5, -4.5], [-4.0, -4.0])
    assert judged("fluency", with_errors(unlike, [0.01] * 2, [0.01] * 2)).outcome == "pass"
    assert judged("fluency", with_errors(alike, [0.01] * 2, [0.01] * 2)).outcome == "fail"
    assert judged("fluency", with_errors(alike, [0.58] * 2, [0.58] * 2)).outcome == "pass"


def test_benchmarks_leave_an_answer_that_repeats_itself_out_of_their_means_and_count_its_damage(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "zlor vim kadu ban zlor vim kadu ban"
    numbers = {broken: BROKEN[broken], "It is sound.": LEVEL}
    monkeypatch.setattr(common_scores, "fluency", lambda judge, prompts, texts: [numbers[text] for text in texts])
    of_target: Any = SimpleNamespace(answers={"a": "It is sound.", "b": "It is sound."})
    against: Any = SimpleNamespace(judge=Judge(tiny, "tiny"), target=of_target, reference=None)
    found = common_scores.soundness({"a": "q", "b": "q"}, {"a": broken, "b": "It is sound."}, against)
    assert found.fluency == {"a": None, "b": LEVEL.value}
    assert found.damaged == {"a": 1.0, "b": 0.0}
