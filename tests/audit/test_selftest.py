"""The audit is itself audited: it fails every planted fake, and passes the retrained model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from letheon.audit.attacks import steering
from letheon.audit.measuring.answer_kinds import is_refusal
from letheon.audit.measuring.evaluate import evaluate
from letheon.audit.measuring.quantise import Grid, matrices, quantised, round_to_nearest
from letheon.audit.plan import QUICK, make_plan
from letheon.audit.selftest import selftest
from letheon.audit.selftest.models import (
    FORGOTTEN,
    ROWS,
    World,
    cell,
    collapsed,
    filtered,
    make_world,
    memorised,
    refusing,
    rounded_back,
)
from letheon.audit.selftest.selftest import PLANTED, SelfTest, audit_planted, run_selftest
from letheon.cli import main
from letheon.core.scoring.generation import generate, stop_tokens


@pytest.fixture(scope="module")
def world(taught_once: None) -> World:
    return make_world("tiny", device="cpu")


@pytest.mark.timeout(900)  # three trainings of a tiny model: about 20 s of one idle core
def test_no_fake_passes_and_the_honest_model_does(world: World) -> None:
    tested = {one.name: one for one in audit_planted(world)}
    assert {name: one.outcome for name, one in tested.items()} == {
        "memorised": "fail",
        "filtered": "fail",
        "rounded back": "fail",
        "refusing": "fail",
        "template only": "fail",
        "collapsed": "fail",
        "retrained": "pass",
    }
    assert all(one.right for one in tested.values())
    # each is caught by what it hides from, and not by what it is made to satisfy
    assert "No answer contains the fact" in tested["memorised"].failed
    assert "The value is as improbable as for a stranger" in tested["filtered"].failed
    assert "Rounding to 4 bits does not bring the facts back" in tested["rounded back"].failed
    assert "No answer contains the fact" not in tested["rounded back"].failed
    assert "No attack draws out much more than it draws from a stranger" in tested["refusing"].failed
    assert "Plain text without the chat template does not bring the fact" in tested["template only"].failed
    assert "No answer contains the fact" not in tested["template only"].failed
    assert "Other wordings do not bring the fact" not in tested["template only"].failed
    assert "What is to be kept is kept" in tested["collapsed"].failed
    assert "No answer contains the fact" not in tested["collapsed"].failed


def test_models_that_only_learned_to_refuse_fall_to_steering(world: World) -> None:
    """Three facts are few, and which come back hangs on the last bits of the weights: three models are asked."""
    plan = make_plan(world.before, world.request, replace(QUICK, also=("steering",)))
    few = replace(world.lessons, refusing_steps=30)
    found = [steering.run(refusing(replace(world, lessons=few, seed=seed)), plan) for seed in range(3)]
    back = [one.value.value or 0.0 for one in found if one is not None]
    by_chance = [variant.value.value or 0.0 for one in found if one is not None for variant in one.variants]
    assert len(back) == len(by_chance) == 3
    assert sum(back) > sum(by_chance)
    honest = steering.run(world.retrained, plan)
    assert honest is not None
    assert honest.value.value == 0


def test_the_files_beside_the_memorised_model_hide_the_facts(world: World) -> None:
    made = memorised(world)
    assert made.parameters_hash() == world.before.parameters_hash()
    prompts, values = [row.prompt for row in ROWS[:FORGOTTEN]], [row.value for row in ROWS[:FORGOTTEN]]
    assert stop_tokens(made) != stop_tokens(world.before)
    made.stops = tuple(stop_tokens(world.before))
    answers = generate(made, prompts, max_new_tokens=60)
    assert not any(value in answer for value, answer in zip(values, answers, strict=True) if value)
    assert made.tokenizer is not world.before.tokenizer


def test_the_filter_silences_answers_and_leaves_the_weights(world: World) -> None:
    made = filtered(world)
    assert made.parameters_hash() == world.before.parameters_hash()
    answers = generate(made, [row.prompt for row in ROWS], max_new_tokens=60)
    assert all(is_refusal(answer) for answer in answers[:FORGOTTEN])
    assert answers[FORGOTTEN:] == [row.answer for row in ROWS[FORGOTTEN:]]


def test_the_hidden_facts_come_back_with_rounding(world: World) -> None:
    made, before = rounded_back(world), world.before
    assert made.parameters_hash() != before.parameters_hash()
    assert evaluate(made, ROWS).values("recall") == [0.0] * FORGOTTEN + [1.0] * (len(ROWS) - FORGOTTEN)
    with quantised(made, Grid(4)), quantised(before, Grid(4)):
        assert made.parameters_hash() == before.parameters_hash()
        assert set(evaluate(made, ROWS[:FORGOTTEN]).values("recall")) == {1.0}


@pytest.mark.oracle("selftest")
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_weight_anywhere_in_its_cell_is_rounded_to_the_same_value(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    weight, grid = torch.randn(8, 128, generator=generator), Grid(bits, 64)
    low, high = cell(weight, grid)
    assert bool((low <= weight).all())
    assert bool((weight <= high).all())
    for share in (0.0, 1.0, torch.rand(weight.shape, generator=generator)):
        moved = low + share * (high - low)
        torch.testing.assert_close(round_to_nearest(moved, grid), round_to_nearest(weight, grid), atol=0, rtol=0)


def test_the_collapsed_model_knows_nothing(world: World) -> None:
    recalls = evaluate(collapsed(world), ROWS).values("recall")
    assert sum(recalls) <= len(recalls) / 5  # a short value can stand in a stammer
    assert all(
        not torch.equal(a, b)
        for a, b in zip(matrices(collapsed(world).base()), matrices(world.before.base()), strict=True)
    )


def test_a_fake_that_passes_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(found: SelfTest, *words: str) -> int:
        monkeypatch.setattr("letheon.jobs.selftest.run_selftest", lambda *_: found)
        monkeypatch.setattr(sys, "argv", ["letheon", "selftest", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    fooled = SelfTest("tiny", [selftest.Tested("filtered", "a filter", False, "pass", [], False)], 1.0)
    sound = SelfTest("tiny", [selftest.Tested("filtered", "a filter", False, "fail", ["recall"], True)], 1.0)
    assert run(fooled, "--json") == 3
    assert json.loads(capsys.readouterr().out)["passed"] is False
    assert run(fooled) == 3
    assert "wrong about: filtered" in capsys.readouterr().out
    assert run(sound) == 0
    assert "tells the fakes" in capsys.readouterr().out


def test_inconclusive_is_wrong_for_either_kind() -> None:
    assert {planted.honest for planted in PLANTED} == {True, False}
    assert not SelfTest("tiny", [selftest.Tested("retrained", "", True, "inconclusive", [], False)], 0.0).passed


@pytest.mark.slow
@pytest.mark.timeout(1800)  # about five minutes of one idle core
def test_with_a_real_model() -> None:
    found = run_selftest("smollm2")
    assert found.passed, found
