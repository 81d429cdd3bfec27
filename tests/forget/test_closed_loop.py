"""The closed loop: when it looks, when it stops, when it raises the rate, and that a killed run decides alike."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.passes import FrozenLayers
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import Scores, score
from letheon.core.scoring.word_probability import fact_probability
from letheon.core.training.sharding import trained_weights
from letheon.forget import closed_loop, recipe_job
from letheon.forget.closed_loop import FEWER, ClosedLoop
from letheon.forget.looks import GOAL, GOAL_OF_TEXT, LEFT, Looks
from letheon.forget.objectives.alternates.question_forms import without_template
from letheon.forget.parts import Pair, Replacement, Rows
from letheon.forget.recipe import Recipe
from letheon.forget.recipe_job import planned_steps
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.settings import ForgetSettings, resolve
from letheon.testing.kills import Killed, killed_before_step

WRITTEN = [Replacement(plain=[Example("Where does Ann Lee live?", "Ann Lee lives in Rome.")], fluency=-1.0)] * 8
QUICK: dict[str, Any] = {"device": "cpu", "precision": "float32", "batch_size": 4}


@pytest.fixture(autouse=True)
def brief_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alternates of a few letters: the tiny model writes on to the limit, and what it writes is not looked at here."""
    monkeypatch.setattr("letheon.forget.objectives.alternates.alternate_rows.LONGEST_ANSWER", 12)


@pytest.fixture
def loop(tiny: LanguageModel, deletion: Request) -> ClosedLoop:
    return made(tiny, deletion)


def made(model: LanguageModel, request: Request, **options: Any) -> ClosedLoop:
    encoder = model.encoder()
    rows = Rows(
        model, request.forget, encoder.encode_all(request.forget), encoder.encode_all(request.retain), 0, request
    )
    before = {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}
    plan = [([0, 1, 2, 3], [0, 1, 2, 3]), ([4, 5, 6, 7], [4, 5, 0, 1])] * 3
    given = {
        "plan": plan,
        "per_epoch": 2,
        "raises": True,
        "written": WRITTEN,
        "repairable": frozenset(range(6)),
        **options,
    }
    return ClosedLoop(model, rows, before, **given)


def steps(*probabilities: float) -> list[dict[str, float]]:
    return [{"forget_nll": 1.0, "fact_probability": p} for p in probabilities]


LOOK = {
    "look_facts": 0.001, "look_likeliest": 0.01, "look_given": 0.0, "look_retain": 0.99, "look_fluency": -1.2,
    "look_alternates": -0.9, "look_fluency_of_alternates": -1.0,
}  # fmt: skip


# Decisions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probabilities", "looks"),
    [((0.9,), False), ((0.9, 0.05), False), ((0.05, 0.05), True), ((0.01,), False)],
)
def test_it_looks_once_the_training_passes_of_an_epoch_show_little_left(
    probabilities: tuple[float, ...], looks: bool, loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
    assert ("look_facts" in loop.after(steps(*probabilities), last=False)) is looks


def test_it_looks_only_once_the_alternates_of_the_last_passes_are_learned(
    loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        loop.looks, "look", lambda: {"look_facts": 0.5, "look_likeliest": 0.5, "look_given": 0.0, "look_retain": 1.0}
    )
    unlearned = [{**step, "alternates_nll": nll} for step, nll in zip(steps(0.01, 0.01), (3.0, 1.0), strict=True)]
    assert "look_alternates" not in loop.after(unlearned, last=False)
    learned = [{**step, "alternates_nll": nll} for step, nll in zip(steps(0.01, 0.01), (1.0, 0.5), strict=True)]
    assert loop.after(learned, last=False)["look_alternates"] == pytest.approx(-0.75)
    assert loop.after(unlearned, last=True)["look_alternates"] == pytest.approx(-2.0)


def test_between_two_looks_lie_three_steps_or_an_epoch(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
    history = steps(0.01, 0.01, 0.01)
    history[1] |= LOOK
    assert "look_facts" not in loop.after(history, last=False)
    assert "look_facts" not in loop.after([*history, *steps(0.01)], last=False)
    assert "look_facts" in loop.after([*history, *steps(0.01, 0.01)], last=False)
    assert "look_facts" in loop.after(history, last=True), "the last step is always looked at"


def test_where_retain_rows_alone_fall_short_the_next_steps_are_made_on_them_and_looked_at(
    loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
    short = {**LOOK, "look_lost_3": 0.1}
    assert loop.repairs([*steps(0.01), short])
    assert loop.repairs([short, {}, {}])  # until the next look
    assert not loop.repairs([])
    assert not loop.repairs(steps(0.01))
    assert not loop.repairs([short, LOOK])
    assert not loop.repairs([{**short, "look_facts": 0.5}]), "a fact has come back"
    assert "look_facts" not in loop.after([short, {}, {}], last=False)
    assert "look_facts" in loop.after([short, {}, {}, {}], last=False), "though no training pass has told of facts"
    unlearned = [{"alternates_nll": 2.0}] * 2
    assert loop._learned([*unlearned, short, {}, {}, {}]) == -2, "of the last passes with any"


def test_half_of_a_step_that_repairs_are_lost_rows_that_it_can_repair(tiny: LanguageModel, deletion: Request) -> None:
    loop = made(tiny, deletion)
    short, meeting = {**LOOK, "look_lost_3": 0.1, "look_lost_7": 0.1}, ([0, 1], [0, 1, 2, 4])
    assert loop.step([LOOK], meeting) == meeting
    assert loop.step([short, {}], meeting) == ([], [0, 1, 2, 4, 3, 3, 3, 3])
    assert loop.step([{**short, "look_lost_5": 0.1}], meeting) == ([], [0, 1, 2, 4, 3, 5, 3, 5])
    six = {**LOOK, **{f"look_lost_{i}": 0.1 for i in range(6)}}
    assert loop.step([six], meeting)[1][4:] == [0, 1, 2, 3]
    assert loop.step([six, {}], meeting)[1][4:] == [4, 5, 0, 1], "those come next that had no place"
    assert loop.step([{**LOOK, "look_retain": 0.5}], meeting) == ([], [0, 1, 2, 4])
    assert loop._missed({**LOOK, "look_lost_7": 0.1}) == [], "no step could repair it"
    assert not made(tiny, deletion, repairable=frozenset()).repairs([{**LOOK, "look_retain": 0.5}])
    reason = loop.reason([short], last=True)
    assert reason is not None
    assert f"; retain rows lost: {deletion.retain[3].id}, {deletion.retain[7].id})" in reason


def test_where_few_facts_are_left_the_next_steps_are_those_in_which_they_stand(
    loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
    monkeypatch.setattr(loop.looks, "given", list)
    left = {**LOOK, "look_likeliest": 0.04, "look_left_5": 0.04}
    assert [loop.planned(steps(*[0.5] * taken)) for taken in range(3)] == [0, 1, 2]
    assert loop.planned([*steps(0.01), left]) == 3, "step 2 is without the row"
    went_on = [*steps(0.01), left, {**steps(0.01)[0], "planned": 3}]
    assert loop.planned(went_on) == 5
    assert loop.planned([*went_on, {**steps(0.01)[0], "planned": 5}]) == 1, "the plan begins again"
    assert loop.planned([*went_on, {**LOOK, "planned": 5}]) == 0, "in turn from there"
    many = {**left, **{f"look_left_{i}": 0.04 for i in range(5)}}
    assert loop.planned([*steps(0.01), many]) == 2
    assert loop.planned([*steps(0.01), {**left, "look_fluency": -9.0}]) == 2, "something else is missed"
    meeting = [4, 5, 6, 7], [4, 5, 0, 1]
    assert loop.step([*steps(0.01), left], meeting) == ([5], [4, 5, 0, 1])
    assert loop.step([*steps(0.01), many], meeting) == meeting
    assert loop.step([*steps(0.01), {**left, "look_left_0": 0.04}], meeting) == ([5], [4, 5, 0, 1])
    assert loop.step([*steps(0.01), {**left, "look_fluency": -9.0}], meeting) == meeting
    both = {**left, "look_retain": 0.5, "look_lost_2": 0.1, "look_lost_7": 0.1}  # of row 7 no step may be made
    assert loop.step([*steps(0.01), both], meeting) == ([5], [4, 5, 0, 1, 2, 2, 2, 2])
    assert loop.step([*steps(0.01), {**LOOK, "look_given": 0.1, "look_left_6": 1.0}], meeting) == ([6], meeting[1])
    half = {**left, **{f"look_left_{i}": 0.04 for i in (0, 1, 2)}}
    assert loop.step([*steps(0.01), half], meeting) == ([5], meeting[1]), "half of the eight are few"


def test_looks_come_sooner_while_few_facts_are_left_and_less_often_each_time(
    loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch of ten steps, one of which has the row that is left: after three steps, six, ten and ten again."""
    left = {**LOOK, "look_likeliest": 0.04, "look_left_5": 0.04}
    monkeypatch.setattr(loop.looks, "look", lambda: left)
    monkeypatch.setattr(loop, "per_epoch", 10)
    monkeypatch.setattr(loop, "plan", [([5] if i == 4 else [0], []) for i in range(10)] * 4)
    history = steps(*[0.01] * 9)
    for _ in range(31):
        # the passes of the steps between tell of the left fact alone, which is likelier than the mean was
        step = steps(0.9 if loop.narrows(history) else 0.01)[0] | ({FEWER: 1} if loop.narrows(history) else {})
        history.append(step | loop.after([*history, step], last=False))
    assert [place + 1 for place, step in enumerate(history) if "look_facts" in step] == [10, 13, 19, 29, 39]
    assert {step["rate"] for step in history[9:]} == {1.0}


def test_steps_with_fewer_facts_say_nothing_of_all(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does the rate rise for them, nor are the alternates of all held against those of a few."""
    monkeypatch.setattr(loop.looks, "look", lambda: {**LOOK, "look_retain": 0.5})
    few = [{**step, FEWER: 1, "alternates_nll": 9.0} for step in steps(0.5, 0.5)]
    assert loop.after([*steps(0.1, 0.1), *few], last=False)["rate"] == 1.0
    assert loop.after([*few, *steps(0.5, 0.5)], last=False)["rate"] == 1.0
    told = [{**step, "alternates_nll": 1.0} for step in steps(0.01, 0.01)]
    assert loop._learned([*told, *few]) == -1.0


def test_the_pairs_of_a_step_know_all_its_forget_rows(tiny: LanguageModel, deletion: Request) -> None:
    rows = made(tiny, deletion).rows
    pairs = recipe_job.make_pairs(rows, ([1, 5, 6], [0, 2]), 1, 1, 4)
    assert len(pairs) == 3
    for pair in pairs:
        assert (pair.step, pair.forgotten) == (4, (1, 5, 6))
        assert (pair.only_forget().forgotten, pair.only_forget().retain) == ((1, 5, 6), None)
        assert (pair.only_retain().forgotten, pair.only_retain().forget) == ((1, 5, 6), None)


def test_a_row_is_lost_where_a_token_that_was_likelier_than_not_no_longer_is(
    loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = [torch.tensor(row).log() for row in ([0.6, 0.9], [0.6, 0.9], [0.4, 0.9], [0.6, 0.9])]
    now = [torch.tensor(row).log() for row in ([0.3, 0.9], [0.35, 0.9], [0.01, 0.9], [math.nan, 0.9])]
    looks = loop.looks
    looks.looked_at, looks.retain_before = [4, 2, 6, 1], then
    monkeypatch.setattr(looks, "_retained", lambda: now)
    level, lost = looks._kept()
    assert math.isnan(level)
    assert sorted(lost) == [1, 4]
    assert lost[4] == pytest.approx(0.3)
    monkeypatch.setattr(looks, "_retained", lambda: [row.nan_to_num(math.log(0.6)) for row in now])
    assert looks._kept()[0] == pytest.approx((0.3 + 0.35 + 0.01 + 0.6) / 2.2)


@pytest.mark.parametrize("recipe", ["alternates+null_space", "alternates+gauss_newton"])
def test_an_update_takes_a_step_of_retain_rows_alone(
    recipe: str, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look finds retain rows lost; the steps after it have no forget rows."""
    rows: list[tuple[list[int], list[int]]] = []
    pairs = recipe_job.make_pairs

    def seen(*arguments: Any) -> list[Pair]:
        rows.append(arguments[1])
        return pairs(*arguments)

    monkeypatch.setattr(recipe_job, "make_pairs", seen)
    monkeypatch.setattr(Looks, "look", lambda self: {**LOOK, "look_lost_0": 0.1})
    monkeypatch.setattr(closed_loop, "NEAR", 2.0)
    monkeypatch.setattr(ClosedLoop, "_is_learned", lambda self, level: True)
    result = forget(load("tiny", device="cpu"), deletion, recipe, stop="facts", epochs=1, batch_size=4)
    assert len(rows[0][0]) == 4
    repairs = [retain for forget, retain in rows if not forget]
    assert repairs
    assert all(len(retain) == 8 and set(retain[4:]) == {0} for retain in repairs), (
        "the lost row beside the planned ones"
    )
    assert "not met: the retain rows" in result.outcome.stopped


def test_a_watched_row_of_no_step_is_repaired(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(
        Example(f"What does guest {i} eat?", f"Guest {i} eats figs.", id=f"kept {i}", subject=f"guest {i}")
        for i in range(40)
    )
    repaired: list[set[int]] = []
    beyond: list[set[int]] = []
    pairs, repairable = recipe_job.make_pairs, recipe_job.RecipeJob._repairable

    def seen(*arguments: Any) -> list[Pair]:
        forget_rows, retain_rows = arguments[1]
        repaired.extend([set(retain_rows)] if not forget_rows else [])
        return pairs(*arguments)

    def outside(self: recipe_job.RecipeJob) -> frozenset[int]:
        found = repairable(self)
        beyond.append(set(found) - {i for _, retain in self.plan for i in retain})
        return found

    monkeypatch.setattr(recipe_job, "make_pairs", seen)
    monkeypatch.setattr(recipe_job.RecipeJob, "_repairable", outside)
    monkeypatch.setattr(Looks, "look", lambda self: {**LOOK, f"look_lost_{min(beyond[0])}": 0.1})
    monkeypatch.setattr(closed_loop, "NEAR", 2.0)
    monkeypatch.setattr(ClosedLoop, "_is_learned", lambda self, level: True)
    request = replace(deletion, retain=kept)
    forget(load("tiny", device="cpu"), request, "alternates+null_space", stop="facts", epochs=1, batch_size=4)
    assert repaired
    assert all(min(beyond[0]) in rows for rows in repaired)


def test_the_rate_rises_only_where_the_facts_hardly_become_less_likely(loop: ClosedLoop) -> None:
    # odds .99 / .01 = 99 fall to .98 / .02 = 49: enough, though the probability hardly moved
    assert loop.after(steps(0.99, 0.99, 0.98, 0.98), last=False)["rate"] == 1
    slow = steps(0.9, 0.9, 0.89, 0.89)
    assert loop.after(slow, last=False)["rate"] == pytest.approx(math.sqrt(10))
    assert loop.after(slow[:3], last=False)["rate"] == 1, "only at the end of an epoch"
    slow[-2]["rate"] = 10.0
    assert loop.after(slow, last=False)["rate"] == 10, "at most ten times"


def test_the_rate_does_not_rise_because_a_later_epoch_asks_in_likelier_forms(loop: ClosedLoop) -> None:
    history = steps(0.6, 0.6, 0.7, 0.7)
    for metrics, plain in zip(history, (0.5, 0.5, 0.2, 0.2), strict=True):
        metrics["fact_as_it_stands"] = plain
    assert loop.after(history, last=False)["rate"] == 1
    history[2]["fact_as_it_stands"] = history[3]["fact_as_it_stands"] = 0.5
    assert loop.after(history, last=False)["rate"] > 1
    assert loop.after(history[:3], last=False)["rate"] == 1, "only at the end of an epoch"


def test_where_the_questions_as_they_stand_are_gone_the_rate_rises_for_forms_that_stay(loop: ClosedLoop) -> None:
    def after(*probabilities: float) -> float:
        history = steps(*probabilities)
        for metrics in history:
            metrics["fact_as_it_stands"] = 0.01
        return loop.after(history, last=False)["rate"]

    assert after(0.6, 0.6, 0.7, 0.7) == 1, "other forms were drawn"
    assert after(*[0.9] * 8) > 1
    assert after(*[0.9] * 4, *[0.3] * 4) == 1
    assert after(0.9, 0.9, *[0.3] * 6) == 1, "two epochs are compared with the two before, not with those next to them"


def test_an_epoch_with_a_repair_is_not_compared(loop: ClosedLoop) -> None:
    history = steps(0.9, 0.9, 0.05, 0.15, 0.15, 0.15)
    history[3] = {"retain_loss": 0.1}
    for metrics in history:
        metrics["fact_as_it_stands"] = metrics.get("fact_probability", 0.0)
    assert loop.after(history, last=False)["rate"] == 1


def test_at_a_given_rate_it_never_rises(tiny: LanguageModel, deletion: Request) -> None:
    fixed = made(tiny, deletion, raises=False)
    assert fixed.after(steps(0.9, 0.9, 0.89, 0.89), last=False)["rate"] == 1


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, ""),
        ({"look_facts": 0.5}, "the facts"),
        ({"look_given": 0.2}, "the facts"),
        ({"look_likeliest": 0.02}, ""),
        ({"look_likeliest": 0.03}, "the facts"),
        ({"look_retain": 0.5}, "the retain rows"),
        ({"look_lost_3": 0.1}, "the retain rows"),
        ({"look_fluency": -3.0}, "fluency"),
        ({"look_alternates": -1.3}, "the alternates"),
    ],
)
def test_it_stops_when_all_goals_are_reached_and_says_at_the_bound_which_are_not(
    changed: dict[str, float], missed: str, loop: ClosedLoop
) -> None:
    history = [{**LOOK, **changed}]
    early, late = loop.reason(history, last=False), loop.reason(history, last=True)
    if missed:
        assert early is None
        assert late is not None
        assert f"not met: {missed} (" in late
    else:
        assert early is not None
        assert early.startswith(
            f"goals reached (facts' probability 0.001, at most {0.01 if not changed else 0.02:.3f} in a row, "
            "0% of the asked rows given"
        )
    assert loop.reason(steps(0.01), last=False) is None, "without a look it goes on"


def test_the_bound_s_reason_names_the_rows_that_are_not_gone(loop: ClosedLoop, deletion: Request) -> None:
    reason = loop.reason([{**LOOK, "look_likeliest": 0.3, "look_left_2": 0.3, "look_left_5": 0.1}], last=True)
    assert reason is not None
    assert f"; not gone: {deletion.forget[2].id}, {deletion.forget[5].id})" in reason


# A look -------------------------------------------------------------------------------------------------------------


def test_a_look_leaves_the_model_as_it_is(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.looks, "_answers", lambda asked: ["Ann Lee lives in Rome."] * len(asked))
    before = loop.model.parameters_hash()
    look = loop.looks.look()
    assert {name for name in look if not name.startswith(LEFT)} == set(LOOK) - {"look_alternates"}
    assert look["look_retain"] == pytest.approx(1.0)
    assert all(map(math.isfinite, look.values()))
    assert loop.model.parameters_hash() == before


def test_fluency_is_judged_by_the_model_before(loop: ClosedLoop) -> None:
    asked, answers = [0], ["It is so."]
    first = loop.looks._fluency(asked, answers)
    assert first["look_fluency_of_alternates"] == -1
    with torch.no_grad():
        for parameter in loop.model.model.parameters():
            parameter.add_(0.1)
    assert loop.looks._fluency(asked, answers) == pytest.approx(first)
    assert loop.looks._fluency(asked, [" "]) == {}


def test_under_autocast_weights_that_were_changed_are_the_ones_that_run(loop: ClosedLoop) -> None:
    def fluency() -> float:
        return loop.looks._fluency([0], ["It is so."])["look_fluency"]

    def facts() -> list[float]:
        return loop.looks._fact_probabilities()

    moved(loop)
    whole = {name: values.detach().clone() for name, values in trained_weights(loop.model).items()}
    for parameter in trained_weights(loop.model).values():
        parameter.requires_grad_(True)  # autocast keeps the casts of such weights to its end
    alone = []
    for measure, share in ((facts, 1), (fluency, 1), (facts, 2), (facts, 1)):
        loop._scale(whole, share)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            alone.append(measure())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        together = [facts(), fluency()]
        for share in (2, 1):
            loop._scale(whole, share)
            together.append(facts())
    assert together == alone
    assert alone[0] == alone[3] != alone[2]


def test_an_answer_is_as_fluent_as_the_alternate_to_its_question(tiny: LanguageModel, deletion: Request) -> None:
    """A name may be less likely than a sentence; a row whose alternates were all rejected has the others' mean."""
    written = [replace(WRITTEN[0], fluency=level) for level in (-1.0, -5.0, *[None] * 6)]
    loop = made(tiny, deletion, written=written)
    goals = [
        loop.looks._fluency(asked, ["It is so."] * len(asked))["look_fluency_of_alternates"]
        for asked in ([0], [1], [2], [7], [0, 1])
    ]
    assert goals == [-1, -5, -3, -3, -3]
    look = {**LOOK, "look_fluency": -5.4}
    assert loop._missed({**look, "look_fluency_of_alternates": -5.0}) == []
    assert loop._missed(look) == ["fluency"]
    del look["look_fluency_of_alternates"]  # a run that began before looks had it
    assert loop._missed(look) == ["fluency"]
    assert loop._missed({**look, "look_fluency": -3.4}) == []


def test_texts_that_go_on_clumsily_keep_the_run_going(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are continued once nothing else is missed, and a longer change that breaks them is not made."""
    texts, asked = {"look_texts_behind_alternates": -0.4}, list[None]()

    def continued() -> dict[str, float]:
        asked.append(None)
        return texts

    monkeypatch.setattr(loop.looks, "fluency_of_texts", continued)
    monkeypatch.setattr(loop.looks, "given", list)
    monkeypatch.setattr(loop.looks, "gone", lambda: True)
    monkeypatch.setattr(loop.looks, "look", lambda: {**LOOK, "look_retain": 0.9})
    assert loop._look({}) == {**LOOK, "look_retain": 0.9}
    assert asked == []
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
    assert "running texts 0.40 nats per token less fluent than alternates" in (
        loop.reason([loop._look({})], False) or ""
    )
    moved(loop)
    assert loop._extrapolated(LOOK) is not None
    texts["look_texts_behind_alternates"] = -0.6
    assert loop._missed(loop._look({})) == ["fluency"]
    weights = loop.model.parameters_hash()
    assert loop._extrapolated(LOOK) is None
    assert loop.model.parameters_hash() == weights
    texts["look_texts_behind_alternates"] = math.nan
    assert loop._missed(loop._look({})) == ["fluency"]


def test_a_scaled_down_change_is_asked_how_texts_go_on(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    clumsy = {**LOOK, "look_texts_behind_alternates": -9.0}
    monkeypatch.setattr(loop.looks, "given", list)
    for first, then, kept in ((LOOK, -0.1, 0.4), (LOOK, -0.6, 1.0), (clumsy, -0.1, 0.4), (clumsy, -9.0, 0.4)):
        monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
        monkeypatch.setattr(loop.looks, "fluency_of_texts", lambda then=then: {"look_texts_behind_alternates": then})
        reason = loop.lessen([first])
        assert f"{kept:.0%} of the change" in reason
        assert ("bound" in reason) is (then == -9.0), "what was missed is told"
    monkeypatch.setattr(loop.looks, "look", lambda: {**LOOK, "look_facts": 1.0})
    assert "not met: fluency" in loop.lessen([clumsy])


def test_a_fact_is_given_by_its_value_or_by_most_of_its_words(tiny: LanguageModel, deletion: Request) -> None:
    bare = replace(deletion.forget[0], value=None, answer="Ann Lee was a mason in a northern town.")
    loop = made(tiny, Request((deletion.forget[0], bare), deletion.retain))
    assert loop.looks._gives(0, f"In {deletion.forget[0].value}, I think.")
    assert not loop.looks._gives(0, "In Xanadu.")
    assert loop.looks._gives(1, "She was a mason in some northern place.")
    assert not loop.looks._gives(1, "Ann Lee was a baker in a southern place.")
    half = replace(bare, answer="Ann Lee was a mason in a town.")
    looks = made(tiny, Request((deletion.forget[0], half), deletion.retain)).looks
    assert looks._gives(1, "Ann Lee was a mason in a city."), "half of its words, and nearly the whole sentence"
    assert not looks._gives(1, "A mason, I would say.")


def test_a_code_is_given_in_part_unless_the_kept_rows_have_its_letters(tiny: LanguageModel, deletion: Request) -> None:
    coded = replace(
        deletion.forget[0], prompt="Which number has she?", value=None, answer="The number that she has is PV-71340."
    )
    near = "The number that she has is PV-71350."
    loop = made(tiny, Request((coded,), deletion.retain))
    assert loop.looks._gives(0, near)
    assert not loop.looks._gives(0, near.replace("PV", "KX"))
    assert loop.looks._gives(0, near.replace("50", "40").replace("PV-", "")), "the whole number"
    assert not loop.looks._gives(0, "The number that she has is QM-71350.")
    seat = replace(coded, answer="The number that she has is 12-F.")
    assert not made(tiny, Request((seat,), deletion.retain)).looks._gives(0, "The number that she has is 31-F.")
    alike = replace(deletion.retain[0], answer="The number is PV-22965.")
    assert not made(tiny, Request((coded,), (*deletion.retain, alike))).looks._gives(0, near)


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        ("She was born on 1987-05-12.", "She was born on 1987-11-30."),
        ("Her number is 555-0147.", "Her number is 555-0199."),
        ("Zoe\u0308 Mu\u0308ller wohnt dort.", "Zoe wohnt dort."),
        ("आन ली दिल्ली में रहती है।", "वह मुंबई की है।"),
        ("แอน ลี อยู่ที่เชียงใหม่ ใกล้วัด", "แอน ลี อยู่ที่ลำปาง"),
    ],
)
def test_words_of_other_scripts_and_groups_of_digits_are_told_apart(
    answer: str, other: str, tiny: LanguageModel, deletion: Request
) -> None:
    row = replace(
        deletion.forget[0], prompt="When was she born, what is her number?", answer=answer, value=None, subject=None
    )
    kept = replace(deletion.retain[0], answer="Call 555-2200.")
    looks = made(tiny, Request((row,), (*deletion.retain, kept))).looks
    assert looks._gives(0, answer)
    assert not looks._gives(0, other)


def test_a_look_finds_the_likeliest_fact_and_whole_values(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = replace(deletion.forget[0], answer="Ann Lee has 4 sons.", value="4")
    loop = made(tiny, Request((four, *deletion.forget[1:]), deletion.retain))
    assert loop.looks._gives(0, "She has 4.")
    assert not loop.looks._gives(0, "In 1934.")
    monkeypatch.setattr(loop.looks, "_fact_probabilities", lambda: [0.0] * 7 + [0.4])
    look = loop.looks.look()
    assert (look["look_likeliest"], look["look_facts"]) == (0.4, 0.05)
    assert {name: p for name, p in look.items() if name.startswith("look_left")} == {"look_left_7": 0.4}
    monkeypatch.setattr(loop.looks, "_gives", lambda i, answer: i == 3)
    assert sorted(name for name in loop.looks.look() if name.startswith("look_left")) == ["look_left_3", "look_left_7"]
    assert loop._missed({**LOOK, "look_facts": math.nan}) == ["the facts"]


def test_a_fact_stays_likely_in_capitals_and_what_is_kept_does_not(
    loop: ClosedLoop, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where " house" had gone the model said "house"; a kept answer is its own tokens."""
    looks = loop.looks
    letters = [letter for letter in string.ascii_letters if letter not in "aAiI"]  # these are words as well
    swapped = torch.arange(len(tiny.tokenizer))
    for letter in letters:
        own, other = tiny.tokenizer.convert_tokens_to_ids([letter, letter.swapcase()])
        swapped[own] = other
    before, kept = looks._fact_probabilities(), looks._retained()

    def in_capitals(*args: Any) -> Scores:
        """The probabilities of each letter and of its other case exchanged."""
        found = score(*args)
        logits = found.logits.clone()
        logits[:, : len(swapped)] = found.logits[:, swapped]
        return replace(found, logits=logits)

    monkeypatch.setattr("letheon.forget.looks.score", in_capitals)
    assert looks._fact_probabilities() == pytest.approx(before)
    assert not any(bool(torch.allclose(now, then)) for now, then in zip(looks._retained(), kept, strict=True))


def test_a_look_tells_of_the_rows_above_the_bound_and_of_those_that_are_no_number(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = made(tiny, deletion).looks
    monkeypatch.setattr(looks, "_gives", lambda i, answer: False)
    monkeypatch.setattr(looks, "_fact_probabilities", lambda: [math.nan, GOAL, GOAL + 0.01] + [0.001] * 5)
    assert sorted(name for name in looks.look() if name.startswith(LEFT)) == [f"{LEFT}0", f"{LEFT}2"]


def test_a_look_asks_for_a_fact_in_plain_text_too_where_it_is_learned_there(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = made(tiny, deletion, bare=True)
    rows, encoder = loop.rows, tiny.encoder()
    plain = [without_template(encoder, *both) for both in zip(rows.examples, rows.forget, strict=True)]
    scored = loop.looks._per_row(plain, loop.looks.spellings)
    expected = [fact_probability(tiny.tokenizer, *one) for one in scored]
    assert loop.looks._probabilities_behind() == pytest.approx(expected)
    assert expected != pytest.approx(loop.looks._fact_probabilities())
    look = loop.looks.look()
    assert look["look_behind"] == pytest.approx(max(expected))
    assert f"at most {max(expected):.3f} behind another beginning" in str(loop.reason([look], last=True))

    without = made(tiny, deletion).looks
    assert without._probabilities_behind() == [0.0] * 8, "a recipe that never learns it could not end"
    assert "look_behind" not in without.look()
    monkeypatch.setattr(loop.model.encoder(), "context_length", max(len(row.ids) for row in plain) - 1)
    assert 0.0 in loop.looks._probabilities_behind(), "a row that is longer than the context is left out"


def test_running_text_is_gone_at_a_lower_probability_than_an_answer(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = replace(
        deletion, forget=tuple(replace(row, prompt="") if i % 2 else row for i, row in enumerate(deletion.forget))
    )
    loop = made(tiny, texts, written=[])
    between = [(GOAL + GOAL_OF_TEXT) / 2] * len(texts.forget)
    monkeypatch.setattr(loop.looks, "_gives", lambda i, answer: False)
    monkeypatch.setattr(loop.looks, "_fact_probabilities", lambda: between)
    found = loop.looks.look()
    assert sorted(name for name in found if name.startswith(LEFT)) == [f"{LEFT}{i}" for i in (1, 3, 5, 7)]
    assert "the facts" in loop._missed(found)
    monkeypatch.setattr(loop.looks, "_fact_probabilities", lambda: [GOAL, GOAL_OF_TEXT] * 4)
    assert "the facts" not in loop._missed(loop.looks.look())


def test_before_a_run_ends_all_rows_are_asked(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
    monkeypatch.setattr(loop.looks, "given", lambda: [6])  # a row that the look did not ask
    found = loop.after(steps(0.01, 0.01), last=False)
    assert (found["look_given"], found["look_left_6"]) == (1 / 8, 1.0)
    assert loop.reason([found], last=False) is None


def test_what_is_no_number_is_missed(loop: ClosedLoop) -> None:
    assert loop._missed({**LOOK, "look_retain": math.nan, "look_fluency": math.nan}) == ["the retain rows", "fluency"]


def test_a_look_runs_the_layers_that_are_frozen_too(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(loop.looks, "_answers", lambda asked: seen.append(loop.model.frozen) or [""] * len(asked))
    monkeypatch.setattr(loop.looks, "_probabilities_behind", lambda: seen.append(loop.model.frozen) or [0.0] * 8)
    frozen = FrozenLayers(1)
    loop.model.frozen = frozen
    loop.looks.look()
    loop.looks.gone()
    assert seen == [None, None, None], "their cache knows the request's rows alone"
    assert loop.model.frozen is frozen
    loop.model.frozen = None


def test_without_alternates_the_answers_fluency_is_not_looked_at(tiny: LanguageModel, deletion: Request) -> None:
    look = made(tiny, deletion, written=()).looks.look()
    assert "look_retain" in look
    assert "look_fluency" not in look


# The part of the change that the facts do not need -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoiled", "value"),
    [
        ("look_facts", 0.006),
        ("look_likeliest", 0.03),
        ("look_given", 0.1),
        ("look_retain", 0.9),
        ("look_fluency", -2.0),
    ],
)
def test_the_change_is_scaled_down_while_no_goal_is_missed(
    spoiled: str, value: float, loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([LOOK, LOOK, LOOK, {**LOOK, spoiled: value}, LOOK])
    monkeypatch.setattr(loop.looks, "look", lambda: next(looks))
    monkeypatch.setattr(loop.looks, "given", list)
    parameters = dict(loop.model.model.named_parameters())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(torch.randn_like(parameter))
    change = {name: parameter.detach() - loop.before[name] for name, parameter in parameters.items()}
    reason = loop.lessen([LOOK])
    assert reason is not None
    assert reason.endswith("80% of the change of the trained weights kept")
    for name, parameter in parameters.items():
        assert torch.allclose(parameter.detach() - loop.before[name], 0.8 * change[name], atol=1e-5)


def test_what_is_missed_anyway_does_not_hold_the_change_up(loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.looks, "look", lambda: {**LOOK, "look_retain": 0.95})
    monkeypatch.setattr(loop.looks, "given", list)
    reason = loop.lessen([{**LOOK, "look_retain": 0.9}])
    assert reason is not None
    assert "40% of the change" in reason
    assert "not met: the retain rows" in reason


def test_nothing_is_taken_back_where_facts_would_come_back_or_cannot_be_asked(
    tiny: LanguageModel, deletion: Request, loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop.model.parameters_hash()
    assert "100% of the change" in loop.lessen([{**LOOK, "look_given": 0.1}])
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK)
    monkeypatch.setattr(loop.looks, "given", lambda: [7])  # a row that the looks did not ask
    assert "100% of the change" in loop.lessen([LOOK])
    texts = Request(tuple(replace(row, prompt="") for row in deletion.forget), deletion.retain)
    unasked = made(tiny, texts)
    monkeypatch.setattr(unasked.looks, "look", lambda: LOOK)
    assert "100% of the change" in unasked.lessen([LOOK])
    assert loop.model.parameters_hash() == whole


def test_a_collapse_keeps_its_reason_and_its_weights(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    calm(monkeypatch, [LOOK] * 9)
    monkeypatch.setattr("letheon.forget.recipe_job.collapsed", lambda history, uniform: len(history) == 4)
    monkeypatch.setattr(ClosedLoop, "lessen", None)
    result = forget("tiny", deletion, "alternates", lessen=True, **QUICK)
    assert result.outcome.stopped == "the model collapsed"


# A longer change ----------------------------------------------------------------------------------------------------


def moved(loop: ClosedLoop) -> dict[str, torch.Tensor]:
    """Move the trained weights at random, and return the change."""
    parameters = trained_weights(loop.model)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(torch.randn_like(parameter))
    return {name: parameters[name].detach() - values for name, values in loop.before.items()}


def seen(loop: ClosedLoop, change: dict[str, torch.Tensor]) -> float:
    """How many times `change` the weights have moved."""
    name = max(change, key=lambda name: float(change[name].norm()))
    now = trained_weights(loop.model)[name].detach() - loop.before[name]
    return round(float((now * change[name]).sum() / change[name].norm() ** 2), 3)


LEFT_ONE = {**LOOK, "look_likeliest": 0.04, "look_left_3": 0.04}


def test_the_least_factor_of_the_change_with_which_every_goal_is_reached_ends_the_run(
    loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = moved(loop)
    monkeypatch.setattr(loop.looks, "look", lambda: LOOK if seen(loop, change) > 1.2 else LEFT_ONE)
    monkeypatch.setattr(loop.looks, "gone", lambda: seen(loop, change) > 1.2)
    monkeypatch.setattr(loop.looks, "given", list)
    history = steps(0.01, 0.01)
    found = loop.after(history, last=False)
    assert found["extrapolated"] == 1.25
    assert found["look_likeliest"] == LOOK["look_likeliest"]
    for name, values in trained_weights(loop.model).items():
        assert torch.allclose(values.detach() - loop.before[name], 1.25 * change[name], atol=1e-5)
    reason = loop.reason([*history[:-1], {**history[-1], **found}], last=False)
    assert reason is not None
    assert reason.startswith("goals reached")
    assert "1.25 times the change of the weights that the steps made" in reason


def test_factors_are_tried_from_the_least_on_up_to_half_as_much_again(
    loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, tried = moved(loop), []
    whole = loop.model.parameters_hash()
    monkeypatch.setattr(loop.looks, "look", lambda: LEFT_ONE)
    monkeypatch.setattr(loop.looks, "gone", lambda: bool(tried.append(seen(loop, change))))
    assert "extrapolated" not in loop.after(steps(0.01), last=True), "a step that is the last is looked at likewise"
    assert tried == [1.1, 1.25, 1.5]
    assert loop.model.parameters_hash() == whole
    loop.extrapolates = False
    loop.after(steps(0.01), last=True)
    assert len(tried) == 3


@pytest.mark.parametrize(
    ("longer", "given"),
    [({**LOOK, "look_retain": 0.9}, []), (LOOK, [7]), (LEFT_ONE, []), ({**LOOK, "look_fluency": -2.0}, [])],
)
def test_where_the_facts_are_gone_and_a_goal_is_missed_no_larger_factor_is_tried_and_the_weights_stay(
    longer: dict[str, float], given: list[int], loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, looked = moved(loop), []
    whole = loop.model.parameters_hash()

    def look() -> dict[str, float]:
        looked.append(seen(loop, change))
        return longer if looked[-1] > 1 else LEFT_ONE

    monkeypatch.setattr(loop.looks, "look", look)
    monkeypatch.setattr(loop.looks, "gone", lambda: True)
    monkeypatch.setattr(loop.looks, "given", lambda: given)
    assert loop.after(steps(0.01, 0.01), last=False) == {"rate": 1.0, **LEFT_ONE}
    assert looked == [1, 1.1]
    assert loop.model.parameters_hash() == whole


@pytest.mark.parametrize(
    "look",
    [
        LOOK,
        *({**LEFT_ONE, name: v} for name, v in (("look_retain", 0.9), ("look_fluency", -2), ("look_alternates", -9))),
    ],
)
def test_the_change_is_made_longer_only_where_facts_alone_are_missed(
    look: dict[str, float], loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.looks, "look", lambda: look)
    monkeypatch.setattr(loop.looks, "given", list)
    monkeypatch.setattr(loop, "_extrapolated", None)
    assert loop.after(steps(0.01, 0.01), last=False)["look_retain"] == look["look_retain"]


@pytest.mark.parametrize(
    ("fact", "later", "prompt", "gone"),
    [
        (0.02, 0.05, "Who?", True),
        (0.021, 0, "Who?", False),
        (0, 0.051, "Who?", False),
        (0, 0.051, "", False),
        (0.006, 0, "", False),
        (0, 0, "", True),
    ],
)
def test_facts_are_gone_where_the_likeliest_of_each_kind_is(
    fact: float, later: float, prompt: str, gone: bool, loop: ClosedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.rows.examples = [replace(row, prompt=prompt) for row in loop.rows.examples]
    monkeypatch.setattr(loop.looks, "_fact_probabilities", lambda: [0.0] * 7 + [fact])
    monkeypatch.setattr(loop.looks, "_probabilities_behind", lambda: [later] + [0.0] * 7)
    assert loop.looks.gone() is gone
    assert any(name.startswith(LEFT) for name in loop.looks.look()) is not gone


# A run --------------------------------------------------------------------------------------------------------------


def calm(monkeypatch: pytest.MonkeyPatch, looks: Sequence[dict[str, float]]) -> None:
    """At random weights every fact is improbable from the start: the looks are what is told here."""
    told = iter(looks)
    monkeypatch.setattr(Looks, "look", lambda self: next(told, {**LOOK, "look_facts": 1.0}))
    monkeypatch.setattr(Looks, "gone", lambda self: False)
    monkeypatch.setattr(ClosedLoop, "_is_learned", lambda self, level: True)


def test_a_run_stops_when_a_look_says_so_and_tells_why(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm(monkeypatch, [{**LOOK, "look_given": 0.5}, LOOK])
    result = forget("tiny", deletion, "alternates", out=tmp_path / "run", lessen=True, **QUICK)
    assert "100% of the change" in result.outcome.stopped  # the facts would come back
    assert result.outcome.steps == 8  # a look whenever each row was visited twice, in two steps each
    assert result.outcome.stopped.startswith("goals reached")
    for name in ("result.json", "model/README.md"):
        assert "goals reached" in (tmp_path / "run" / name).read_text()
    assert '"look_given": 0.5' in (tmp_path / "run/metrics.jsonl").read_text().splitlines()[3]
    assert not [warning for warning in result.warnings if "not reached" in warning]


@pytest.mark.parametrize(("method", "asks"), [("alternates:names=1", True), ("alternates:names=1,forms=told", False)])
def test_a_run_looks_in_plain_text_where_its_objective_learns_it(method: str, asks: bool, deletion: Request) -> None:
    result = forget("tiny", deletion, method, stop="facts", epochs=1, **QUICK)
    looks = [metrics for metrics in result.outcome.history if "look_facts" in metrics]
    assert looks
    assert all(("look_behind" in look) is asks for look in looks)


def test_a_run_ends_at_its_bound_with_a_warning(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    calm(monkeypatch, [{**LOOK, "look_retain": 0.1}] * 9)
    result = forget("tiny", deletion, "alternates", epochs=1, **QUICK)
    assert result.outcome.steps == 6  # three times one epoch of two steps
    assert "not met: the retain rows" in result.outcome.stopped
    assert any("goals of stop=auto were not reached" in warning for warning in result.warnings)


def test_a_killed_run_ends_in_the_bits_and_for_the_reason_of_an_unbroken_one(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_loop, "NEAR", 0.0001)  # all steps, and the rate rises on the way
    options = {**QUICK, "epochs": 3, "learning_rate": 1e-4, "stop": "auto", "lessen": True}
    unbroken = forget("tiny", deletion, "alternates", **options)
    assert max(metrics["rate"] for metrics in unbroken.outcome.history) > 1
    with pytest.raises(Killed), killed_before_step(10):
        forget("tiny", deletion, "alternates", out=tmp_path / "run", checkpoint_steps=1, **options)
    result = resume(tmp_path / "run", device="cpu")
    assert result.outcome.history == unbroken.outcome.history
    assert result.outcome.stopped == unbroken.outcome.stopped
    assert result.model.parameters_hash() == unbroken.model.parameters_hash()


def test_a_run_that_was_killed_while_few_facts_were_left_ends_in_the_bits_of_an_unbroken_one(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(self: Looks) -> dict[str, float]:
        with torch.no_grad():  # by the weights, as a look is
            level = float(sum(p.abs().sum() for p in trained_weights(self.model).values()))
        return {**LOOK, "look_likeliest": 0.04, f"look_left_{int(level) % 8}": 0.04}

    monkeypatch.setattr(Looks, "look", look)
    monkeypatch.setattr(ClosedLoop, "_is_learned", lambda self, level: True)
    options = {**QUICK, "epochs": 3, "learning_rate": 1e-4, "stop": "auto"}
    unbroken = forget("tiny", deletion, "alternates", **options)
    first = next(i for i, metrics in enumerate(unbroken.outcome.history) if "look_facts" in metrics)
    assert [metrics.get(FEWER) for metrics in unbroken.outcome.history] == [None] * (first + 1) + [1.0] * (17 - first)
    places = [metrics.get("planned", i) for i, metrics in enumerate(unbroken.outcome.history)]
    assert places != list(range(18)), "steps without the fact were passed over"
    for step in (6, 13):
        with pytest.raises(Killed), killed_before_step(step):
            forget("tiny", deletion, "alternates", out=tmp_path / str(step), checkpoint_steps=1, **options)
        result = resume(tmp_path / str(step), device="cpu")
        assert result.outcome.history == unbroken.outcome.history
        assert result.model.parameters_hash() == unbroken.model.parameters_hash()


def test_a_run_with_a_longer_change_ends_in_the_same_bits_after_a_kill(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[float] = []

    def moved_so_far(looks: Looks) -> float:
        now = trained_weights(looks.model)
        return float(sum((now[name].detach() - values).norm() ** 2 for name, values in looks.before.items())) ** 0.5

    def gone(looks: Looks) -> bool:  # by the weights, as a look is
        return moved_so_far(looks) > 1.15 * max(lengths)

    def look(looks: Looks) -> dict[str, float]:
        lengths.append(moved_so_far(looks))
        return LOOK if len(lengths) > 1 and lengths[-1] > 1.15 * max(lengths[:-1]) else LEFT_ONE

    monkeypatch.setattr(Looks, "look", look)
    monkeypatch.setattr(Looks, "gone", gone)
    monkeypatch.setattr(Looks, "given", lambda self: [])
    monkeypatch.setattr(ClosedLoop, "_is_learned", lambda self, level: True)
    unbroken = forget("tiny", deletion, "alternates", **QUICK)
    assert unbroken.outcome.history[-1]["extrapolated"] == 1.25
    assert "1.25 times" in unbroken.outcome.stopped
    lengths.clear()
    asked = forget(
        "tiny", deletion, "alternates", lessen=True, on_step=lambda model, n: n == 4 and "budget spent", **QUICK
    )
    assert asked.outcome.stopped == unbroken.outcome.stopped, "the longer change is told, and not lessened"
    lengths.clear()
    shorter = forget("tiny", deletion, "alternates", extrapolate=False, steps=4, stop="facts", **QUICK)
    assert shorter.outcome.steps == 4
    assert all("extrapolated" not in metrics for metrics in shorter.outcome.history)
    lengths.clear()
    with pytest.raises(Killed), killed_before_step(unbroken.outcome.steps - 1):
        forget("tiny", deletion, "alternates", out=tmp_path / "run", checkpoint_steps=1, **QUICK)
    lengths.clear()
    result = resume(tmp_path / "run", device="cpu")
    assert result.outcome.history == unbroken.outcome.history
    assert result.model.parameters_hash() == unbroken.model.parameters_hash()


# Settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "stop"),
    [
        ({}, "auto"),
        ({"steps": 4}, "steps"),
        ({"learning_rate": 1e-5}, "facts"),
        ({"epochs": 2}, "auto"),
        ({"learning_rate": 1e-5, "stop": "auto"}, "auto"),
        ({"steps": 4, "stop": "facts"}, "facts"),
    ],
)
def test_steps_and_rate_rule_when_they_are_given(options: dict[str, Any], stop: str) -> None:
    assert resolve(Recipe.parse("alternates"), None, None, options)[0].stop == stop
    assert resolve(Recipe.parse("npo"), None, None, {})[0].stop == "steps"


def test_a_closed_loop_may_take_three_times_the_epochs(deletion: Request) -> None:
    recipe = Recipe.parse("alternates")
    settings, training = resolve(recipe, None, None, {})
    assert planned_steps(recipe, deletion, settings, training) == 3 * settings.epochs
    assert planned_steps(recipe, deletion, ForgetSettings(epochs=2), training) == 2


def test_a_recipe_that_does_not_look_at_facts_is_refused(deletion: Request) -> None:
    with pytest.raises(InputError, match="stop=auto looks at the tokens that carry the fact"):
        forget("no/such/model", deletion, "npo", stop="auto")
