"""Paper `resonance`: its arms, what noise costs, a tiny run, and how parts make a verdict."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from letheon.papers.common.recall_world import compared, right, streams, windowed_model
from letheon.papers.resonance import ARMS, MEMORIES, NOISES, judged, make, noise_curve, noise_figure

FAR, RECURRING = "beyond reach", "beyond reach, frequent"


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
    for arm in ("resonance", *MEMORIES, "random read"):
        addons = make(arm, model, 0)
        with torch.no_grad():
            addons.parameters()[f"{arm}.beside.1.output.weight"].copy_(torch.eye(64)[:, :32])
        with torch.inference_mode():
            outputs.append(model.model(ids, use_cache=False).logits)
        addons.detach()
    assert torch.equal(outputs[0][:, 0], outputs[1][:, 0])  # nothing is in a synapse yet
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.fixture(scope="module")
def runs() -> dict[int, dict[str, Any]]:
    return dict.fromkeys(range(2), compared(ARMS, make, NOISES, 0, 2, 2))


def test_a_tiny_run_has_every_arm_part_and_figure(runs: dict[int, dict[str, Any]]) -> None:
    found = judged(runs)
    assert set(runs[0]) == {"model", *ARMS}
    assert set(found.parts) == set(found.intervals) <= set(found.measured)
    assert found.parts["logits changed when off"] == "holds"
    assert [p for p, _ in noise_curve(runs, "delta")] == [0.0, *NOISES]
    assert noise_figure(runs).startswith("<svg")


@pytest.mark.parametrize(
    ("recurring", "cost", "verdict"),
    [(0.5, 0.1, "holds"), (0.2, 0.1, "fails"), (0.5, 0.3, "fails")],
)
def test_more_recall_and_less_cost_of_noise_are_both_needed(
    runs: dict[int, dict[str, Any]], recurring: float, cost: float, verdict: str
) -> None:
    def one(arm: str, seed: int) -> dict[str, Any]:
        more, less = (recurring, cost) if arm == "resonance" else (0.3, 0.2)
        changed = {RECURRING: more + seed / 1000, FAR: 0.4}
        return {**runs[0][arm], **changed, "noise": {p: {FAR: 0.4 - less - seed / 1000} for p in NOISES}}

    assert judged({seed: {arm: one(arm, seed) for arm in runs[0]} for seed in range(3)}).verdict == verdict
