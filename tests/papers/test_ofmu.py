"""Paper `ofmu`: the two loops on quadratics, what is read off a run, and how the parts make a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch

from letheon.papers import catalogue, ofmu
from letheon.papers.kit.arms import Arm, Taught, Trajectory
from letheon.papers.kit.findings import Findings
from letheon.papers.ofmu import End
from letheon.papers.outcome import Scale


def test_the_search_over_the_line_finds_the_minimiser_of_the_closed_form() -> None:
    a, b, matrix, centre = ofmu._problem(torch.Generator().manual_seed(5))
    # c + B⁻¹a (b − aᵀc) / aᵀB⁻¹a: the multiplier of the one constraint
    inverse = torch.linalg.solve(matrix, a)
    expected = centre + inverse * (b - a @ centre) / (a @ inverse)
    torch.testing.assert_close(ofmu.least_on_line(a, b, matrix, centre), expected, rtol=0, atol=1e-4)


def test_the_loops_come_near_the_minimiser_and_nearer_with_a_larger_rho(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = ofmu._problem(torch.Generator().manual_seed(6))
    near = ofmu.two_loops(*problem)
    monkeypatch.setattr(ofmu, "RHOS", (0.1, 0.1))
    far = ofmu.two_loops(*problem)
    assert near.distances[-1] < ofmu.NEAR
    assert near.stationarity < far.stationarity


def run_of(cosine: float, gap: float, kept: float) -> Trajectory:
    history = [{"cosine": cosine, "stationarity": gap, "descends": float(step % 2)} for step in range(4)]
    pairs = ((0.9, 0.9), (0.05, kept))
    return Trajectory([{"forget_probability": p, "retain_probability": q} for p, q in pairs], history)


def judged(ends: list[End], runs: dict[int, dict[str, Trajectory]]) -> Findings:
    found = Findings(primary=ofmu.PRIMARY)
    ofmu.judge(found, ends, ofmu.compared(runs))
    return found


def runs_with(ours: tuple[float, float, float]) -> dict[int, dict[str, Trajectory]]:
    other = run_of(-0.5, 2.0, 0.5)
    names = [*ofmu.ARMS, "grad_diff" + ofmu.ON]
    own = {"ofmu": run_of(*ours), "ofmu" + ofmu.ON: run_of(*ours)}
    return {seed: {**dict.fromkeys(names, other), **own} for seed in range(10)}


ENDS = [End([1.0] * 9 + [0.05], 0.01)]


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ((0.1, 1.0, 0.7), "holds"),
        ((0.6, 1.0, 0.7), "fails"),  # farther from zero than the other's -0.5
        ((0.1, 3.0, 0.7), "fails"),
        ((0.1, 1.0, 0.3), "fails"),
        ((0.1, 1.0, 0.5), "inconclusive"),  # no difference
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_needs_every_part(ours: tuple[float, float, float], verdict: str) -> None:
    runs = runs_with(ours)
    assert ofmu.compared(runs).level == ofmu.DEEP
    result = judged(ENDS, runs)
    assert set(result.parts) == set(ofmu.PRIMARY) < set(result.intervals)
    assert all(result.checks.values())
    assert result.verdict == verdict
    assert result.measured["mean |cosine|"]["beta 0"] == 0.5


def test_a_quadratic_that_is_missed_leaves_the_claim_open() -> None:
    result = judged([*ENDS, End([1.0, 0.2], 0.1)], runs_with((0.1, 1.0, 0.7)))
    assert list(result.checks.values()) == [False, True]
    assert result.verdict == "inconclusive"


def test_one_seed_or_no_level_decides_nothing() -> None:
    runs = runs_with((0.1, 1.0, 0.7))
    assert judged(ENDS, {0: runs[0]}).verdict == "inconclusive"
    for arms in runs.values():  # one arm hardly forgets
        arms["grad_diff" + ofmu.ON] = Trajectory([arms["ofmu"].points[0]], arms["ofmu"].history)
    assert judged(ENDS, runs).parts["retain probability, ofmu minus grad_diff"] == "inconclusive"


def test_shallow_forgetting_decides_nothing() -> None:
    runs = runs_with((0.1, 1.0, 0.7))
    for arms in runs.values():
        arms["grad_diff" + ofmu.ON].points[-1]["forget_probability"] = 0.35
    result = judged(ENDS, runs)
    assert result.measured["compared at forget probability"] == 0.4
    assert not result.checks["read at deep forgetting"]
    assert result.verdict == "inconclusive"


def test_each_side_has_a_rate_of_its_own() -> None:
    arms = ofmu.arms_of(Scale(), {"ofmu": (0.01, 1e-3), "grad_diff": (4.0, 3e-4)}).arms()
    assert (arms["ofmu"].rate, arms["rho 0"].rate, arms["grad_diff"].rate) == (1e-3, 1e-3, 3e-4)
    assert arms["ofmu"].recipe == "ofmu+bilevel:growth=1.5,rho=0.01"
    assert arms["grad_diff"].recipe == "grad_diff:alpha=4.0"


def test_the_two_that_are_compared_go_on_until_they_have_forgotten_deeply(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def instead(taught: Taught, plan: Arm, seed: int, *, until: Callable[[dict[str, float]], bool]) -> Trajectory:
        assert until({"forget_probability": 0.2})
        assert not until({"forget_probability": 0.21})
        asked.append((str(plan.recipe), plan.steps))
        return run_of(0.1, 1.0, 0.7)

    monkeypatch.setattr(ofmu, "follow", instead)
    monkeypatch.setattr(ofmu.Arms, "run", lambda self, taught, seed: {})
    arms = ofmu.arms_of(Scale(), {"ofmu": (0.01, 1e-3), "grad_diff": (4.0, 3e-4)})
    runs = ofmu.runs_of(arms, Mock(), 0)
    assert list(runs) == ["ofmu" + ofmu.ON, "grad_diff" + ofmu.ON]
    assert asked == [(arms.recipes[name], 3 * arms.steps) for name in ("ofmu", "grad_diff")]


def test_the_figures_are_drawn() -> None:
    drawn = ofmu.figures(ENDS, ofmu.compared(runs_with((0.1, 1.0, 0.7))))
    assert set(drawn) == {"quadratics", "cosine", "kept"}
    assert all(text.startswith("<svg") for text in drawn.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_tofu_mini() -> None:
    outcome = catalogue.paper("ofmu").reproduce(Scale(seeds=(0, 1)))
    assert all(outcome.checks.values())
    assert len(outcome.rows) == 2 * len(ofmu.ARMS)
    assert all(math.isfinite(row["last_retain_probability"]) for row in outcome.rows)
