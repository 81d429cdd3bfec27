"""Paper `reglu`: the geometry that is watched, the level of comparison, and how the parts make a verdict."""

from __future__ import annotations

import math
from unittest.mock import Mock

import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.papers import catalogue, reglu
from letheon.papers.kit.arms import Arm, Taught, Trajectory
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.levels import Runs
from letheon.papers.outcome import Scale

OPTIONS = {"steps": 3, "learning_rate": 5e-3, "batch_size": 4, "precision": "float32"}


@pytest.mark.parametrize("method", [*reglu.FAST.arms.values(), *reglu.TOLD["fast"].values()])
def test_every_arm_is_a_recipe_of_one_rank(method: str) -> None:
    scope = Recipe.parse(method).scope.settings
    assert (scope.r, scope.alpha) == (8, 16)


@pytest.mark.parametrize("method", [*reglu.FULL.arms.values(), *reglu.TOLD["full"].values()])
def test_so_is_every_arm_of_the_full_scale(method: str) -> None:
    scope = Recipe.parse(method).scope.settings
    assert (scope.r, scope.alpha) == (16, 32)


def test_the_watched_directions_are_those_that_the_penalty_protects(tiny: LanguageModel, deletion: Request) -> None:
    geometry = reglu.Geometry.before(tiny, deletion, reglu.FAST)
    scope = Recipe.parse(reglu.FAST.method).scope.make()
    scope.select(tiny, deletion)
    assert {f"base_model.model.{name}" for name in geometry.layers} == set(scope.starts)
    for name, layer in geometry.layers.items():
        basis = scope.starts[f"base_model.model.{name}"].basis.double()
        # equal subspaces: the projections agree (float32 rounding of the stored basis)
        torch.testing.assert_close(basis @ basis.T, layer.basis @ layer.basis.T, atol=1e-5, rtol=0)


def test_before_the_first_step_nothing_leaks_but_rounding(tiny: LanguageModel, deletion: Request) -> None:
    geometry = reglu.Geometry.before(tiny, deletion, reglu.FAST)
    Recipe.parse(reglu.FAST.method).scope.make().select(tiny, deletion)
    layer = dict(tiny.model.named_modules())["base_model.model.model.layers.0.mlp.up_proj"]
    before = geometry.layers["model.layers.0.mlp.up_proj"].weight
    torch.testing.assert_close(reglu.effective(layer), before, atol=1e-6, rtol=0)


def test_leakages_are_shares_and_the_layer_s_own_is_that_of_its_change(tiny: LanguageModel, deletion: Request) -> None:
    geometry = reglu.Geometry.before(tiny, deletion, reglu.FAST)
    found: list[dict[str, float]] = []
    forget(
        tiny, deletion, reglu.FAST.arms["LoRA"], on_step=lambda now, _: found.append(geometry.leakages(now)), **OPTIONS
    )
    assert len(found) == 3
    assert all(0 < share <= 1 for point in found for share in point.values())


# The verdict


def falling(kept: float, leak: float, lowest: float = 0.2) -> Trajectory:
    start = dict.fromkeys(("forget_probability", "retain_probability", "other_probability", "other_es"), 1.0)
    start |= {"step": 0, "own_leakage": leak, "leakage": leak, "overlap": 0.2}
    end = {"step": 1, "forget_probability": lowest, "other_probability": kept, "other_es": kept}
    return Trajectory([start, start | end])


def judged(runs: Runs) -> Findings:
    found = Findings(primary=reglu.PRIMARY)
    reglu.judge(found, reglu.compared(runs))
    return found


def runs_that(*gaps: tuple[float, float]) -> Runs:
    """A seed for each pair: what ReGLU keeps and leaks more than default LoRA."""
    return {
        seed: {"LoRA": falling(0.5, 0.6), "RILA": falling(0.5, 0.6), "ROL": falling(0.5, 0.6)}
        | {"ReGLU": falling(0.5 + kept, 0.6 + leak)}
        for seed, (kept, leak) in enumerate(gaps)
    }


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        (((0.2, -0.2), (0.1, -0.1)), "holds"),
        (((0.2, 0.1), (0.1, 0.2)), "holds"),  # leakage is what it penalises: reported
        (((-0.2, -0.1), (-0.1, -0.1)), "fails"),
        (((0.2, -0.1), (-0.1, -0.1)), "inconclusive"),
        (((0.2, -0.1),), "inconclusive"),
    ],
)
def test_the_claim_needs_both_parts(gaps: tuple[tuple[float, float], ...], verdict: str) -> None:
    runs = runs_that(*gaps * (5 if len(gaps) > 1 else 1))
    assert reglu.compared(runs).level == reglu.DEEP
    result = judged(runs)
    assert set(result.parts) == set(reglu.PRIMARY)
    assert set(result.parts) <= set(result.intervals)
    assert result.verdict == verdict
    assert result.measured["leakage, ReGLU minus LoRA"] == pytest.approx(sum(leak for _, leak in gaps) / len(gaps))
    assert result.measured["steps to there"]["ReGLU"] == 1


def test_a_judged_run_may_take_three_times_the_steps_of_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []

    def instead(taught: Taught, plan: Arm, seed: int, *, until: object) -> Trajectory:
        steps.append((seed, plan.steps))
        return falling(0.5, 0.6)

    monkeypatch.setattr(reglu, "follow", instead)
    monkeypatch.setattr(reglu, "start", Mock())
    reglu.reproduce(Scale(seeds=(0,)), Findings(primary=reglu.PRIMARY))
    plain = reglu.setting_of(Scale()).steps
    assert {(count, seed < 100) for seed, count in steps} == {(plain, False), (3 * plain, True)}


def test_a_level_that_is_never_reached_is_inconclusive() -> None:
    runs = {seed: {arm: falling(0.5, 0.5, lowest=0.95) for arm in ("LoRA", "RILA", "ROL", "ReGLU")} for seed in (0, 1)}
    assert reglu.compared(runs).level is None
    result = judged(runs)
    assert result.measured["other_probability, ReGLU minus LoRA"] is None
    assert result.checks == {"read at deep forgetting": False}
    assert result.verdict == "inconclusive"


def test_figures_are_drawn() -> None:
    drawn = reglu.figures(reglu.compared(runs_that((0.2, -0.2), (0.1, -0.1))))
    assert set(drawn) == {"kept", "leakage", "own-leakage"}
    assert all(svg.startswith("<svg") for svg in drawn.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured() -> None:
    outcome = catalogue.paper("reglu").reproduce(Scale(seeds=(0, 1)))
    assert set(outcome.primary) == set(reglu.PRIMARY)
    assert all(math.isfinite(row["last_leakage"]) for row in outcome.rows)
