"""Relearning watches rows that it does not train on, leaves the model alone, and says when half is back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.audit.test_attacks import ROWS, taught

import letheon
from letheon.audit.attacks.relearning import relearn, steps_to
from letheon.audit.plan import Settings, make_plan, split_for_relearning
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.request import Request


def test_relearning_records_every_step_and_leaves_the_model_alone() -> None:
    before = taught().parameters_hash()
    points = relearn(taught(), ROWS[:1], ROWS[1:], steps=3)
    assert [point.step for point in points] == [0, 1, 2, 3]
    assert points[0].recall == 1.0  # the positive control knows the watched rows from the start
    assert points[0].probability > 0.9
    assert taught().parameters_hash() == before
    rarely = relearn(taught(), ROWS[:1], ROWS[1:], steps=3, every=2)
    assert [point.step for point in rarely] == [0, 2, 3]  # the last step always
    seen = [points[i] for i in (0, 2, 3)]
    assert [point.probability for point in rarely] == pytest.approx([p.probability for p in seen], rel=1e-4)
    assert [point.recall for point in rarely] == [point.recall for point in seen]


def test_the_loss_of_the_trained_rows_says_whether_they_were_learned() -> None:
    """The untaught model learns its row at a rate that teaches, and stays as it was at one of 1e-12."""
    losses = {}
    for rate in (1e-12, 1e-2):
        points = relearn(letheon.load("tiny", device="cpu"), ROWS[:1], ROWS[1:], steps=6, learning_rate=rate)
        assert [point.trained_loss is None for point in points] == [False, *[True] * 5, False]
        losses[rate] = [points[0].trained_loss or 0.0, points[-1].trained_loss or 0.0]
    assert losses[1e-12] == pytest.approx([losses[1e-2][0]] * 2, rel=1e-4)
    assert losses[1e-2][1] < losses[1e-2][0] / 2
    known = relearn(taught(), ROWS[:1], ROWS[1:], steps=1)
    assert [point.trained_loss for point in known if point.trained_loss is None or point.trained_loss > 0.1] == []


def test_an_adapter_is_merged_into_the_attacked_copy() -> None:
    from peft import LoraConfig, get_peft_model

    model: LanguageModel = letheon.load("tiny", device="cpu")
    model.model = get_peft_model(model.model, LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False))
    before = model.parameters_hash()
    assert len(relearn(model, ROWS[:1], ROWS[1:], steps=1)) == 2
    assert model.parameters_hash() == before


@pytest.mark.parametrize(("n", "expected"), [(1, (1, 1)), (2, (1, 1)), (5, (2, 3)), (200, (64, 64))])
def test_half_of_the_rows_is_trained_on_and_the_rest_watched(n: int, expected: tuple[int, int]) -> None:
    rows = [Example("q", str(i), id=str(i)) for i in range(n)]
    train, watched = split_for_relearning(rows, seed=3)
    assert (len(train), len(watched)) == expected
    if n > 1:
        assert not {row.id for row in train} & {row.id for row in watched}
    assert split_for_relearning(rows, seed=3) == (train, watched)
    assert split_for_relearning(rows, seed=3, known=[False] * n) == (train, watched)
    if n > 1:
        known = [row in train for row in rows]
        assert not {row.id for row in split_for_relearning(rows, 3, known=known)[1]} <= {row.id for row in watched}


def test_known_rows_are_dealt_to_both_sides_the_held_out_one_first() -> None:
    rows = [Example("q", str(i), id=str(i)) for i in range(8)]
    for seed in range(8):
        for known in range(1, 8):
            train, watched = split_for_relearning(rows, seed, known=[i < known for i in range(8)])
            held, taught = (sum(int(row.id) < known for row in side) for side in (watched, train))
            assert (held, taught) == (-(-known // 2), known // 2)
            assert sorted(row.id for row in (*train, *watched)) == [row.id for row in rows]


def test_of_two_facts_the_one_that_the_model_before_gives_is_held_out() -> None:
    model, rows = taught(), (ROWS[0], replace(ROWS[0], id="unknown", answer="Ann has a lamp.", value="lamp"))
    for seed in range(4):
        made = make_plan(model, Request(forget=rows, retain=tuple(ROWS[1:])), Settings(seed=seed))
        assert [row.id for row in made.watched] == [ROWS[0].id]
        assert [row.id for row in made.trained] == ["unknown"]


@pytest.mark.parametrize(
    ("curve", "steps"),
    [
        ([(0, 0.0), (1, 0.2), (2, 0.6), (3, 0.9)], 1.75),  # 0.2 + 0.4 x 0.75 = 0.5
        ([(0, 0.7), (1, 0.1)], 0.0),  # there from the start, whatever comes after
        ([(0, 0.0), (1, 0.5)], 1.0),
        ([(0, 0.0), (4, 1.0)], 2.0),  # looked at every fourth step
        ([(0, 0.0), (1, 0.4), (2, 0.0), (3, 1.0)], 2.5),  # the first time that it is reached
        ([(0, 0.0), (1, 0.4), (2, 0.4)], None),
        ([], None),
    ],
)
def test_steps_to_half_by_hand(curve: list[tuple[float, float]], steps: float | None) -> None:
    found = steps_to(0.5, curve)
    assert found == (None if steps is None else pytest.approx(steps))


def test_an_adapter_relearns_too_and_leaves_the_model_as_it_was() -> None:
    model = taught()
    before = model.parameters_hash()
    curves = {
        rank: relearn(model, ROWS[:1], ROWS[1:], steps=3, every=3, learning_rate=1e-3, rank=rank) for rank in (0, 2)
    }
    assert model.parameters_hash() == before
    assert not model.has_adapter
    losses = {rank: curve[-1].trained_loss for rank, curve in curves.items()}
    assert curves[0][0] == curves[2][0], "both begin with the model"
    assert losses[0] != losses[2]
    assert (losses[2] or 0.0) < (curves[2][0].trained_loss or 0.0), "the adapter learns"
