"""Paper `reweaving`: the world of facts and questions, its arms, a tiny run, and how parts make a verdict."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from letheon.papers.common import recall_world
from letheon.papers.common.recall_world import (
    ANSWERS,
    FAR,
    KEYS,
    QUESTIONS,
    REACH,
    VALUES,
    WINDOW,
    recall_figure,
    recall_results,
    right,
    streams,
    train,
    windowed_model,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.papers.reweaving import ARMS, judge, make


def test_a_question_has_the_value_of_its_key_and_knows_how_far_back_it_was() -> None:
    batch = streams(20, torch.Generator().manual_seed(0))
    asked = 0
    for row, place in (batch.answers >= 0).nonzero().tolist():
        key, back = int(batch.ids[row, place]) - QUESTIONS, int(batch.distance[row, place])
        fact = int(batch.ids[row, place - back])
        assert divmod(fact, VALUES) == (key, int(batch.answers[row, place]) - ANSWERS)
        between = batch.ids[row, place - back + 1 : place]
        assert not bool(((between < QUESTIONS) & (between // VALUES == key)).any())
        before = batch.ids[row, :place]
        assert int(batch.times[row, place]) == int(((before < QUESTIONS) & (before // VALUES == key)).sum())
        asked += 1
    assert asked > 500
    assert int(batch.ids.max()) < QUESTIONS + KEYS


def test_noise_makes_facts_untrue_and_leaves_the_answers() -> None:
    batch = streams(50, torch.Generator().manual_seed(0), noise=0.5)
    for row, place in (batch.answers >= 0).nonzero().tolist()[:200]:
        fact = int(batch.ids[row, place - int(batch.distance[row, place])])
        assert fact % VALUES == int(batch.answers[row, place]) - ANSWERS


def test_the_model_cannot_see_beyond_its_reach() -> None:
    model, ids = windowed_model(0), streams(1, torch.Generator().manual_seed(0)).ids
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % QUESTIONS
    with torch.inference_mode():
        moved = (model.model(ids).logits != model.model(changed).logits).any(-1)[0]
    assert bool(moved[WINDOW - 1])
    assert not bool(moved[REACH + 1 :].any())


def test_training_lowers_the_loss_and_moves_only_what_it_is_given() -> None:
    model = windowed_model(0)
    addons = make("reweaving", model, 0)
    before = model.parameters_hash()
    losses = train(model, addons.parameters().values(), 25, 0, rate=1e-2, penalty=addons.penalty)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert model.parameters_hash() == before


def test_arms_have_like_many_parameters_and_begin_as_the_model() -> None:
    model, tests = windowed_model(0), streams(4, torch.Generator().manual_seed(0))
    alone, counts = right(model, tests), []
    for arm in ARMS:
        addons = make(arm, model, 0)
        counts.append(sum(p.numel() for p in addons.parameters().values()))
        assert torch.equal(right(model, tests), alone)
        addons.detach()
    assert max(counts) < 1.03 * min(counts)


@pytest.fixture(scope="module")
def results() -> Results:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recall_world, "BASE_STEPS", 2)
        return recall_results(ARMS, make, (), Scale(seeds=(0, 1)), 2)


def judged(results: Results) -> Findings:
    found = Findings()
    judge(results, found)
    return found


def test_a_tiny_run_has_every_arm_part_and_figure(results: Results) -> None:
    found = judged(results)
    assert set(results.arms) == {"model", *ARMS}
    assert set(found.parts) == set(found.intervals) <= set(found.measured)
    assert found.checks == {"logits are unchanged when off": True}
    assert recall_figure(results).startswith("<svg")


@pytest.mark.usefixtures("noise_over_seeds")
def test_an_addon_that_no_longer_recalls_more_fails(results: Results) -> None:
    def with_far(value: float) -> Results:
        def row(arm: str, seed: int) -> dict[str, Any]:
            return {**results.arms[arm][0], FAR: (value if arm == "reweaving" else 0.1) + 0.001 * seed}

        return Results({arm: [row(arm, seed) for seed in range(10)] for arm in results.arms})

    better, worse = (judged(with_far(value)) for value in (0.5, 0.05))
    assert better.parts["recall beyond reach, minus adapter"] == "holds"
    assert worse.verdict == "fails"
