"""Paper `gu`: the order of one step's damage, the watched run, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.training.gradients import dot
from letheon.forget.request import Request
from letheon.forget.separate_gradients import SeparateGradients, descend, separate_gradients
from letheon.papers import catalogue, gu
from letheon.papers.common import pcgrad
from letheon.papers.kit.arms import Arm, Taught, Trajectory, follow, memory_of
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.retain_cosine import METRIC, with_retain_cosine
from letheon.papers.outcome import Scale


def test_plain_damage_is_of_first_order_and_normal_damage_of_second() -> None:
    for order in gu.step_orders(seed=0):
        # 1 and 2 in the limit of small rates; at η = 0.1 the next order shows by a few hundredths
        assert order.slope == pytest.approx(1 if order.step == "plain" else 2, abs=0.05), order


def test_at_the_smallest_rate_the_normal_step_does_less_than_a_thousandth_of_the_damage() -> None:
    orders = gu.step_orders(seed=1)
    for plain, normal in zip(orders[::2], orders[1::2], strict=True):
        assert (plain.step, normal.step) == ("plain", "normal")
        assert normal.changes[-1] < 1e-3 * plain.changes[-1]


def test_the_figure_of_the_orders_is_drawn() -> None:
    svg = gu.figures(gu.step_orders(seed=0), kept_by(0.5))["slopes"]
    assert svg.startswith("<svg")
    assert "normal" in svg


# The watched run


def test_a_realized_step_never_points_up_the_retain_gradient(tiny: LanguageModel, deletion: Request) -> None:
    measure = memory_of({"forget": deletion.forget, "retain": deletion.retain})
    arm = Arm(with_retain_cosine("gradient_ascent+geometric:mode=realized"), 1e-3, steps=3, batch_size=4)
    run = follow(Taught(tiny, deletion, measure), arm, seed=0)
    assert len(run.points) == 4
    assert len(run.metric(METRIC)) == 3
    assert max(run.metric(METRIC)) <= gu.ROUNDING
    assert run.last["forget_probability"] < run.points[0]["forget_probability"]


def test_watching_does_not_change_the_run(tiny: LanguageModel, deletion: Request) -> None:
    from letheon.core.model.models import load
    from letheon.forget.run import forget

    taught = Taught(tiny, deletion, memory_of({"forget": deletion.forget}))
    follow(taught, Arm(with_retain_cosine("npo"), 1e-3, steps=2, batch_size=4), seed=0)
    other = load("tiny", device="cpu")
    forget(other, deletion, "npo", steps=2, learning_rate=1e-3, batch_size=4, precision="float32")
    assert tiny.parameters_hash() == other.parameters_hash()


# The verdict


def kept_by(*kept: float, lowest: float = 0.1) -> gu.Kept:
    """A seed for each number: the retain set's extraction strength under every geometric mode; 0.5 for plain."""

    def arm(update: str, value: float) -> Trajectory:
        end, cosine = (0.5, 0.2) if update == "plain" else (value, -1e-9)
        points = [{"forget_probability": 0.9, "retain_es": 1.0}, {"forget_probability": lowest, "retain_es": end}]
        return Trajectory(points, [{METRIC: cosine}])

    runs = {seed: {update: arm(update, value) for update in gu.ARMS} for seed, value in enumerate(kept)}
    return {objective: gu.compared(objective, runs) for objective in gu.OBJECTIVES}


def judged(kept: gu.Kept) -> Findings:
    found = Findings(primary=gu.PRIMARY)
    gu.judge(found, gu.step_orders(0), kept)
    return found


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        ((0.6, 0.7), "holds"),
        ((0.5, 0.5), "inconclusive"),  # no gain
        ((0.4, 0.3), "fails"),
        ((0.4, 0.7), "inconclusive"),
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_needs_every_part(kept: tuple[float, ...], verdict: str) -> None:
    assert {name: one.level for name, one in kept_by(*kept).items()} == gu.DEEP
    result = judged(kept_by(*kept * 5))
    assert set(result.parts) == set(gu.PRIMARY)
    assert all(result.checks.values())
    assert result.verdict == verdict
    assert set(result.beside) >= {"retain ES, npo, adam minus plain", "retain ES, npo, realized minus PCGrad"}
    assert set(result.intervals) >= {"slope, normal (range)", "retain ES, simnpo, realized minus plain"}


def test_one_seed_is_inconclusive() -> None:
    assert judged(kept_by(0.6)).verdict == "inconclusive"


def test_a_level_that_a_run_never_reaches_is_inconclusive() -> None:
    result = judged(kept_by(0.6, 0.7, lowest=0.85))
    assert result.measured["retain ES, npo, realized minus plain"] is None
    assert not result.checks["npo is read at deep forgetting"]
    assert result.verdict == "inconclusive"


def test_pcgrad_descends_the_retain_loss_in_full_whatever_the_forget_gradient_asks(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """<g, g_r> of the step's gradient is ‖g_r‖² where the two conflict, and <g_f + g_r, g_r> where they do not."""
    separate: list[SeparateGradients] = []
    steps: list[list[torch.Tensor]] = []

    def apart(*args: Any) -> SeparateGradients:
        separate.append(separate_gradients(*args))
        return separate[-1]

    def taken(loop: Any, gradient: list[torch.Tensor]) -> float:
        steps.append([tensor.clone() for tensor in gradient])
        return descend(loop, gradient)

    monkeypatch.setattr(pcgrad, "separate_gradients", apart)
    monkeypatch.setattr(pcgrad, "descend", taken)
    arm = Arm(gu.recipe_of("grad_diff", gu.PCGRAD), 1e-3, steps=2, batch_size=4)
    follow(Taught(tiny, deletion, memory_of({"forget": deletion.forget})), arm, seed=0)
    assert len(steps) == len(separate) == 2
    for gradient, parts in zip(steps, separate, strict=True):
        along = dot(parts.retain, parts.retain) + max(dot(parts.forget, parts.retain), 0.0)
        assert dot(gradient, parts.retain) == pytest.approx(along, rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_tofu_mini() -> None:
    outcome = catalogue.paper("gu").reproduce(Scale(seeds=(0, 1)))
    assert all(outcome.checks.values())
    assert len(outcome.rows) == 2 * 3 * 5
    assert all(math.isfinite(row["largest_cosine"]) for row in outcome.rows)
