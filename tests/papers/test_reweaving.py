"""Paper `reweaving`: the world of facts and questions, its arms, a tiny run, and how parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.papers.common import recall_world
from letheon.papers.common.recall_world import (
    ANSWERS,
    FAR,
    FREQUENT,
    KEPT_NEAR,
    KEYS,
    NEAR,
    QUESTIONS,
    RARE,
    RATES,
    REACH,
    VALUES,
    WINDOW,
    recall_figure,
    recall_results,
    right,
    streams,
    train,
    tuned_rates,
    windowed_model,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.kit.tuning import TUNING_SEEDS
from letheon.papers.outcome import Scale
from letheon.papers.reweaving import ARMS, ATTENTION, OURS, PRIMARY, judge, make


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
    assert asked > 200
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
        return recall_results(dict.fromkeys(ARMS, 1e-2), make, (), Scale(seeds=(0, 1)), 2)


def judged(results: Results) -> Findings:
    found = Findings(primary=PRIMARY)
    judge(results, found)
    return found


@pytest.mark.slow
def test_a_tiny_run_has_every_arm_part_and_figure(results: Results) -> None:
    found = judged(results)
    assert set(results.arms) == {"model", *ARMS}
    assert set(found.parts) == set(PRIMARY)
    beside = {f"recall {FAR}, minus model", f"recall {NEAR}, minus the model's"}
    assert set(found.intervals) == {*PRIMARY, *beside} <= set(found.measured)
    assert set(found.checks) == {"logits are unchanged when off", KEPT_NEAR}
    assert found.checks["logits are unchanged when off"]
    assert recall_figure(results).startswith("<svg")


@pytest.mark.usefixtures("noise_over_seeds")
@pytest.mark.parametrize(("ours", "attention", "verdict"), [(0.5, 0.1, "holds"), (0.5, 0.6, "fails")])
def test_an_arm_that_looks_back_as_well_can_win(ours: float, attention: float, verdict: str) -> None:
    def row(arm: str, seed: int) -> dict[str, Any]:
        value = {OURS: ours, ATTENTION: attention}.get(arm, 0.2) + 0.001 * seed
        row: dict[str, Any] = {FAR: value, RARE: value, FREQUENT: value, NEAR: 1.0, "beyond the window": 0.5}
        return row | {"logits changed when off": 0.0, "parameters": 1, "fall of the loss at the end": 0.1}

    found = judged(Results({arm: [row(arm, seed) for seed in range(10)] for arm in ("model", *ARMS)}))
    assert found.parts[f"recall {FAR}, minus attention"] == verdict
    assert found.verdict == verdict
    assert f"recall {FAR}, minus model" not in found.parts


def recalls_nearby(ours: list[float]) -> Results:
    def row(arm: str, near: float, i: int) -> dict[str, Any]:
        value = (0.5 if arm == OURS else 0.2) + 0.001 * i
        row: dict[str, Any] = {FAR: value, RARE: value, FREQUENT: value, NEAR: near, "beyond the window": 0.5}
        return row | {"logits changed when off": 0.0, "parameters": 1, "fall of the loss at the end": 0.1}

    alone = [1.0] * len(ours)
    return Results(
        {arm: [row(arm, near, i) for i, near in enumerate(ours if arm == OURS else alone)] for arm in ("model", *ARMS)}
    )


@pytest.mark.usefixtures("noise_over_seeds")
def test_what_is_lost_nearby_is_a_condition_in_every_seed_and_no_part() -> None:
    """Both sides recall everything: equal values are as good as it gets, and decide no part."""
    same = judged(recalls_nearby([1.0] * 8))
    assert (same.checks[KEPT_NEAR], same.verdict) == (True, "holds")
    assert same.measured[f"recall {NEAR}, minus the model's"] == 0.0
    assert judged(recalls_nearby([0.985] * 8)).verdict == "holds"
    lost = judged(recalls_nearby([1.0] * 7 + [0.97]))
    assert (lost.checks[KEPT_NEAR], lost.verdict) == (False, "inconclusive")


def test_rates_are_chosen_on_a_model_that_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    peaks = {OURS: 2e-2, ATTENTION: 5e-3}

    def fake(model: Any, arm: str, make: Any, seed: int, steps: int, rate: float) -> dict[str, float]:
        seen.append(seed)
        return {FAR: -abs(math.log(rate / peaks[arm]))}

    monkeypatch.setattr(recall_world, "with_arm", fake)
    monkeypatch.setattr(recall_world, "BASE_STEPS", 1)
    found = Findings()
    rates = tuned_rates(found, (OURS, ATTENTION), make, FAR, Scale(), 5)
    assert rates == peaks, "the search goes on beyond the end of the grid"
    assert set(seen) == set(TUNING_SEEDS)
    search = found.measured["scores of the search on seeds 100, 101"]
    assert list(search[ATTENTION]) == list(map(str, RATES))
    assert list(search[OURS]) == [*map(str, RATES), "0.02", "0.04"]


def test_the_attention_arm_is_one_head_of_causal_attention() -> None:
    """By hand: softmax of scaled products over earlier tokens alone, with no gate."""
    model, ids = windowed_model(0), streams(2, torch.Generator().manual_seed(0)).ids[:, :12]
    addons = make(ATTENTION, model, 0)
    module: Any = addons.modules[ATTENTION]
    with torch.no_grad():
        module.output.weight.normal_(generator=torch.Generator().manual_seed(1))
    inner = model.base().model
    found: list[torch.Tensor] = []
    handle = inner.layers[2].register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.inference_mode():
        model.model(ids, use_cache=False)
        with addons.off():
            model.model(ids, use_cache=False)
        handle.remove()
        woven, plain = found
        x, states = module.norm(plain), module.captured[0](plain)
        scores = module.query(x) @ module.keys[0](states)[..., :-1].mT / 50**0.5
        earlier = torch.ones(12, 12).tril(-1).bool()
        beta = scores.masked_fill(~earlier, -1e9).softmax(-1) * earlier
        by_hand = plain + module.output(module.mixed(beta @ module.values[0](states)))
    assert torch.allclose(woven, by_hand, atol=1e-4)
    addons.detach()
