"""Paper `k-fade`: the exact matrix, the world of tastes, equal forgetting, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.likelihood import score
from letheon.forget.request import Request
from letheon.papers import catalogue, k_fade
from letheon.papers.common.exact_step import cosines, exact_gauss_newton
from letheon.papers.common.small_llama import copy_of
from letheon.papers.common.tastes import FAVOURITE, SLOTS, Tastes, make_tastes, model_of
from letheon.papers.kit.arms import Arm
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale

# The exact step


def test_the_exact_matrix_is_the_second_derivative_of_the_divergence() -> None:
    """At the weights themselves the Hessian of KL(p_θ0 || p_θ) is the Gauss-Newton matrix."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        inputs = torch.randn(20, 3).double()
    before = torch.log_softmax(net(inputs), -1).detach()
    sizes = [(4, 4), (3, 5)]  # [out, in + bias]

    def divergence(flat: torch.Tensor) -> torch.Tensor:
        first, second = (part.view(size) for part, size in zip(flat.split([16, 15]), sizes, strict=True))
        hidden = torch.tanh(inputs @ first[:, :-1].T + first[:, -1])
        logits = hidden @ second[:, :-1].T + second[:, -1]
        return (before.exp() * (before - torch.log_softmax(logits, -1))).sum(-1).mean()

    flat = torch.cat([torch.cat([net[i].weight, net[i].bias[:, None]], 1).flatten() for i in (0, 2)]).detach()
    hessian = torch.autograd.functional.hessian(divergence, flat)
    assert torch.allclose(exact_gauss_newton(net.float(), inputs.float()), hessian, atol=1e-6)  # weights rounded


def test_on_digits_every_part_of_the_curvature_helps() -> None:
    found = cosines(seed=11)
    assert min(found["kfac"], found["ekfac"]) > found["diagonal"] > found["identity"]


# The world


@pytest.fixture(scope="module")
def world() -> Tastes:
    return make_tastes(5, people=5, forgotten=1, later=1, texts=30, new=6)


def test_a_world_is_its_seeds(world: Tastes) -> None:
    assert world == make_tastes(5, people=5, forgotten=1, later=1, texts=30, new=6)
    assert world != make_tastes(6, people=5, forgotten=1, later=1, texts=30, new=6)
    people = [{row.subject for row in rows} for rows in (world.forget, world.retain, world.later)]
    assert [len(found) for found in people] == [1, 4, 1]
    assert not people[0] & people[1]
    assert {row.subject for row in world.new_forget} == people[0]
    assert {row.subject for row in world.new_retain} == people[1]


def test_favourites_are_named_as_often_as_they_should_be() -> None:
    rows = make_tastes(0, people=2, forgotten=1, later=0, texts=2000).forget
    towns = [town for row in rows for town in SLOTS[0][1] if f" {town}" in row.answer]
    share = max(towns.count(town) for town in set(towns)) / len(towns)
    # a random draw hits it now and then; the standard error is about 0.015
    assert share == pytest.approx(FAVOURITE + (1 - FAVOURITE) / len(SLOTS[0][1]), abs=0.05)


@pytest.fixture(scope="module")
def small(world: Tastes) -> LanguageModel:
    return model_of(world, 0, layers=1, width=32)


def test_a_model_of_tastes_stays_uncertain(world: Tastes, small: LanguageModel) -> None:
    ruler = k_fade.Ruler(small, world)
    with torch.no_grad():
        p = torch.softmax(score(small, ruler.rows.retain_batch(range(12))).logits, -1)
    assert float(-(p * p.clamp(min=1e-12).log()).sum(-1).mean()) > 0.3  # nats a token


def test_the_ruler_is_zero_from_a_model_to_itself_and_grows(world: Tastes, small: LanguageModel) -> None:
    ruler = k_fade.Ruler(small, world)
    kl, moved = ruler.kl_from(small), copy_of(small)
    assert kl(moved) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        moved.model.model.layers[0].mlp.down_proj.weight.mul_(0)
    assert kl(moved) > 0.01
    assert k_fade.Ruler(small, world).loss(moved) != ruler.loss(small)


def test_a_run_is_watched_until_it_has_forgotten(world: Tastes, small: LanguageModel) -> None:
    arm = Arm("gradient_ascent", 3e-3, steps=30, batch_size=32)
    start = k_fade.Before(world, small, small, Request(forget=world.forget, retain=world.retain))
    points, from_gold = k_fade.curve(start, arm, seed=0)
    assert points[0] == (0.0, 0.0)
    assert points[-1][0] > k_fade.RISE >= points[-2][0]
    assert from_gold is not None
    assert from_gold > 0


def test_the_update_is_added_again_and_predicted(world: Tastes, small: LanguageModel) -> None:
    request = Request(forget=world.forget, retain=world.retain)
    found = k_fade.again(small, world, request, seed=0)
    assert found["after"] > found["before"]
    for name in ("retained", "others"):
        low, high = (found[f"loss {when}after {name}"] for when in ("", "again "))
        assert high > low
        assert found[f"regained after {name}"] == pytest.approx(high - (low + found["after"]) / 2)
    predicted, measured = zip(*k_fade.predictions(small, request, seed=0), strict=True)
    assert list(predicted) == sorted(predicted)
    assert list(measured) == sorted(measured)


def test_every_arm_of_the_claim_has_a_run() -> None:
    assert k_fade.arm_of("kfac", 0.1).rate == k_fade.UNBOUNDED
    assert "budget=0.1" in str(k_fade.arm_of("kfac", 0.1).recipe)
    assert k_fade.arm_of("npo", 3e-4).rate == 3e-4


# The verdict


@pytest.mark.parametrize(("rise", "expected"), [(0.0, 0.0), (0.25, 0.0025), (0.5, 0.01), (0.75, 0.04), (2.0, None)])
def test_the_divergence_is_read_where_the_loss_has_risen_so_far(rise: float, expected: float | None) -> None:
    found = k_fade.at_rise([(0.0, 0.0), (0.5, 0.01), (1.0, 0.09)], rise)
    assert found == (expected if expected is None else pytest.approx(expected))


def worlds(fold: float, regained: float = 0.3, dear: float = 0.05, seeds: int = 10) -> dict[int, dict[str, Any]]:
    """Seeds in which K-FAC and EK-FAC cost 0.01 at equal forgetting and everything else `fold` times as much."""
    values = {"regained": regained, "kl again": dear, "returned": 1.0}
    again = {f"{what} after {rows}": value for what, value in values.items() for rows in ("retained", "others")}
    again |= {"relearned share": 0.9, "relearned share, retained only": 0.5}
    arms = (*k_fade.CURVATURES, *k_fade.BASELINES)
    ends = {arm: 0.01 * (1 if arm in ("kfac", "ekfac") else fold) for arm in arms}
    curves = {arm: [(0.0, 0.0), (0.5, kl), (0.6, 2 * kl)] for arm, kl in ends.items()}
    gold = dict.fromkeys(("before", *arms), 1.0)
    pairs = [(1e-6, 2e-6), (1e-5, 3e-5)]
    found = {"curves": curves, "gold": gold, "again": again, "predicted and measured KL": pairs}
    return dict.fromkeys(range(seeds), found)


STEP = {"kfac": 0.8, "ekfac": 0.8, "diagonal": 0.5, "identity": 0.4}


def judged(steps: Any, worlds: Any) -> Findings:
    found = Findings(primary=k_fade.PRIMARY)
    k_fade.judge(found, steps, worlds)
    return found


@pytest.mark.parametrize(
    ("found", "step", "verdict"),
    [
        (worlds(4.0), STEP, "holds"),
        (worlds(2.0), STEP, "fails"),
        (worlds(4.0, regained=-0.3), STEP, "fails"),
        (worlds(4.0, dear=0.2), STEP, "fails"),
        (worlds(4.0), {**STEP, "kfac": 0.45}, "fails"),
        (worlds(4.0, seeds=1), STEP, "inconclusive"),
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_needs_every_part(found: dict[int, dict[str, Any]], step: dict[str, float], verdict: str) -> None:
    result = judged(dict.fromkeys(found, step), found)
    assert tuple(result.parts) == k_fade.PRIMARY
    assert set(result.intervals) == set(result.parts)
    assert result.verdict == verdict
    assert result.measured["retain KL at equal forgetting"]["kfac"] == pytest.approx(0.01)
    assert result.measured["measured over predicted KL of a small step"] == pytest.approx(2.0)


def test_an_arm_that_never_forgets_enough_is_inconclusive() -> None:
    found = worlds(4.0)
    found[1] = {**found[1], "curves": {**found[1]["curves"], "identity": [(0.0, 0.0), (0.2, 1.0)]}}
    result = judged(dict.fromkeys(found, STEP), found)
    assert result.parts["log of retain KL, identity over kfac"] == "inconclusive"
    assert result.measured["retain KL at equal forgetting"]["identity"] is None
    assert result.verdict == "inconclusive"


def test_the_figures_are_drawn() -> None:
    drawn = k_fade.figures(worlds(4.0))
    assert set(drawn) == {"forgetting", "predicted"}
    assert all(svg.startswith("<svg") for svg in drawn.values())
    assert "ekfac" in drawn["forgetting"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured() -> None:
    outcome = catalogue.paper("k-fade").reproduce(Scale(seeds=(0, 1)))
    assert outcome.primary["log of retain KL, identity over kfac"]["verdict"] == "holds"
    assert all(math.isfinite(row["last rise"]) for row in outcome.rows)
