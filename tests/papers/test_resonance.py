"""Paper `resonance`: its arms, what noise costs, a tiny run, and how parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.attend.resonance import Resonance, resonate
from letheon.papers.common.recall_world import (
    FAR,
    FREQUENT,
    KEPT_NEAR,
    NEAR,
    RARE,
    compared,
    right,
    streams,
    windowed_model,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.resonance import ARMS, NOISES, PRIMARY, judge, make, noise_curve, noise_figure


def test_arms_have_like_many_parameters_and_begin_as_the_model() -> None:
    model, tests = windowed_model(0), streams(4, torch.Generator().manual_seed(0))
    alone, counts = right(model, tests), []
    for arm in ARMS:
        addons = make(arm, model, 0)
        counts.append(sum(p.numel() for p in addons.parameters().values()))
        assert torch.equal(right(model, tests), alone)
        addons.detach()
    assert max(counts) < 1.03 * min(counts)


def test_arms_with_synapses_begin_alike_and_are_driven_otherwise() -> None:
    model, ids = windowed_model(0), streams(4, torch.Generator().manual_seed(0)).ids
    outputs = []
    for arm in ARMS:
        addons = make(arm, model, 0)
        with torch.no_grad():
            addons.parameters()[f"{arm}.beside.1.output.weight"].copy_(torch.eye(64)[:, :8])
        with torch.inference_mode():
            outputs.append(model.model(ids, use_cache=False).logits)
        addons.detach()
    assert torch.equal(outputs[0][:, 0], outputs[1][:, 0])  # nothing is in a synapse yet
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.fixture(scope="module")
def results() -> Results:
    one = compared(dict.fromkeys(ARMS, 1e-2), make, NOISES, 0, 2, 2)
    assert set(one) == {"model", *ARMS}
    return Results({arm: [one[arm]] * 10 for arm in ("model", *ARMS)})


def judged(results: Results) -> Findings:
    found = Findings(primary=PRIMARY)
    judge(results, found)
    return found


@pytest.mark.slow
def test_a_tiny_run_has_every_arm_part_and_figure(results: Results) -> None:
    found = judged(results)
    assert set(found.parts) == set(PRIMARY)
    assert set(found.intervals) <= set(found.measured)
    assert set(found.checks) == {"logits are unchanged when off", KEPT_NEAR}
    assert found.checks["logits are unchanged when off"]
    assert [p for p, _ in noise_curve(results, "delta")] == [0.0, *NOISES]
    assert noise_figure(results).startswith("<svg")


@pytest.mark.parametrize(
    ("recurring", "noisy", "verdict"),
    [(0.5, 0.3, "holds"), (0.2, 0.3, "fails"), (0.5, 0.1, "fails")],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_more_recall_with_and_without_noise_are_both_needed(recurring: float, noisy: float, verdict: str) -> None:
    def row(arm: str, seed: int) -> dict[str, Any]:
        more, left = (recurring, noisy) if arm == "resonance" else (0.3, 0.2)
        row = {FREQUENT: more + seed / 1000, FAR: 0.4, NEAR: 1.0, "beyond the window": 0.5, RARE: 0.2}
        row |= {"logits changed when off": 0.0, "parameters": 1, "fall of the loss at the end": 0.1}
        return row | {"noise": {p: {FAR: left + seed / 1000} for p in NOISES}}

    results = Results({arm: [row(arm, seed) for seed in range(10)] for arm in ("model", *ARMS)})
    assert judged(results).verdict == verdict


def test_without_a_cap_a_memory_may_grow_beyond_the_root_of_its_width() -> None:
    draw = torch.Generator().manual_seed(0)
    q, k, v = (3 * torch.randn(1, 1, 20, 4, generator=draw) for _ in range(3))
    k = torch.nn.functional.normalize(k, dim=-1)
    one, zero = torch.ones(1), torch.zeros(1)
    ends = {}
    for cap in (2.0, math.inf):
        drive = Resonance(torch.ones(1, 1, 20), one, zero, zero, one, cap)
        _, state, _ = resonate(q, k, v, drive, torch.ones(1, 20), torch.zeros(1, 1, 4, 4))
        ends[cap] = float(state.norm())
    assert ends[2.0] == pytest.approx(2.0, abs=1e-5)
    assert ends[math.inf] > 4.0
