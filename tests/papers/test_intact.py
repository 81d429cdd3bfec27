"""InTAct's claim: its world, what is judged, and one seed of weak and strong protection."""

from __future__ import annotations

import pytest
import torch

from letheon.papers.intact import (
    EWC,
    HEAD,
    ONLY_DRIFT,
    STRENGTHS,
    best,
    digit_domains,
    figures,
    frozen_features,
    judge,
    measured,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results


def runs_of(forgetting: list[float], average: list[float], ewc: float) -> Results:
    arms = {f"{strength:g}": (a, f) for strength, a, f in zip(STRENGTHS, average, forgetting, strict=True)}
    arms |= dict.fromkeys(EWC, (ewc, 0.1))
    return Results(
        {name: [{"average accuracy": a + i / 1000, "forgetting": f} for i in range(3)] for name, (a, f) in arms.items()}
    )


def judged(results: Results) -> Findings:
    found = Findings()
    judge(results, "0.01", found)
    return found


def test_a_fall_a_peak_and_a_rival() -> None:
    falling, peaked = [0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.0, 0.0], [0.5, 0.55, 0.6, 0.65, 0.6, 0.55, 0.5, 0.45]
    assert set(judged(runs_of(falling, peaked, 0.6)).parts.values()) == {"holds"}
    assert judged(runs_of(falling, peaked, 0.7)).parts["peak (0.01) above ewc"] == "fails"
    rising = [*falling[:-1], 0.1]
    assert judged(runs_of(rising, peaked, 0.6)).parts["forgetting at 10 not above that at 1"] == "fails"
    assert figures(runs_of(falling, peaked, 0.6))["strength"].startswith("<svg")


def test_the_world_has_five_looks_of_the_same_digits_and_features_that_stay() -> None:
    stream = digit_domains()
    plain, inverted, turned, mirrored, noisy = (task.train.inputs for task in stream)  # type: ignore[union-attr]
    assert torch.equal(inverted, 1 - plain)
    assert torch.equal(mirrored[0].reshape(8, 8), plain[0].reshape(8, 8).flip(1))
    assert torch.equal(turned[0].reshape(8, 8), plain[0].reshape(8, 8).rot90())
    assert float((noisy - plain).std()) == pytest.approx(0.3, abs=0.01)
    body = frozen_features(0)[0]
    assert not any(parameter.requires_grad for parameter in body.parameters())
    assert torch.equal(body.weight, frozen_features(0)[0].weight)  # type: ignore[arg-type]


def test_one_seed_forgets_less_under_protection() -> None:
    setting = (digit_domains(), HEAD | {"epochs": 3}, frozen_features)
    free, held = (measured(text, 0, setting) for text in ("naive", ONLY_DRIFT.format(1.0)))
    assert held["forgetting"] < 0.1 < free["forgetting"]
    assert held["cube width"] > 0
    assert best(["naive"], setting) == "naive"
