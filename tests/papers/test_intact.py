"""InTAct's claim: its world, what is judged, and one seed of weak and strong protection."""

from __future__ import annotations

import math

import pytest
import torch

from letheon.papers import intact
from letheon.papers.intact import (
    HEAD,
    ONLY_DRIFT,
    PRIMARY,
    RIVALS,
    STRENGTHS,
    TUNING_SEEDS,
    digit_domains,
    figures,
    frozen_features,
    judge,
    measured,
    on_a_head,
    pretrained_features,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale


def arm(accuracy: float, forgetting: float) -> list[dict[str, float]]:
    return [{"average accuracy": accuracy + i * accuracy / 1000, "forgetting": forgetting} for i in range(10)]


def runs_of(forgetting: list[float], average: list[float], ewc: float) -> Results:
    arms = {f"{strength:g}": arm(a, f) for strength, a, f in zip(STRENGTHS, average, forgetting, strict=True)}
    return Results(arms | {name: arm(0.5 if name == "lwf" else ewc, 0.1) for name in RIVALS})


def judged(results: Results, network: float = 0.88) -> Findings:
    found = Findings(primary=PRIMARY)
    whole = Results({"naive": arm(0.83, 0.1), "ewc": arm(0.865, 0.1), "all four losses": arm(network, 0.1)})
    judge(results, "0.01", whole, found)
    return found


@pytest.mark.usefixtures("noise_over_seeds")
def test_a_fall_a_peak_and_a_rival() -> None:
    falling, peaked = [0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.0, 0.0], [0.5, 0.55, 0.6, 0.65, 0.6, 0.55, 0.5, 0.45]
    assert judged(runs_of(falling, peaked, 0.655)).verdict == "holds"
    assert judged(runs_of(falling, peaked, 0.7)).parts["peak not below ewc"] == "fails"
    assert judged(runs_of(falling, peaked, 0.6), network=0.8).verdict == "fails"
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


def test_pretrained_features_stay_and_the_head_is_new() -> None:
    model = pretrained_features(0)
    assert not any(parameter.requires_grad for parameter in model[0].parameters())
    assert not torch.equal(model[0].weight, frozen_features(0)[0].weight)  # type: ignore[arg-type]
    assert torch.equal(model[2].weight, frozen_features(0)[2].weight)  # type: ignore[arg-type]


def test_one_seed_forgets_less_under_protection() -> None:
    setting = (digit_domains(), HEAD | {"epochs": 3}, frozen_features)
    free, held = (measured(text, 0, setting) for text in ("naive", ONLY_DRIFT.format(1.0)))
    assert held["forgetting"] < 0.1 < free["forgetting"]
    assert held["cube width"] > 0


@pytest.mark.parametrize("peak", [0.01, 3.0])
def test_the_peak_and_the_rivals_are_best_on_the_tuning_seeds(peak: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peak within the grid, and one that the search finds beyond it and that then is an arm of its own."""
    peaks, seen = {"intact": peak, "online=false": 3.0, "online=true": 300.0, "lwf": 1.0}, set()

    def fake(text: str, seed: int, setting: object) -> dict[str, float]:
        seen.add(seed)
        at = next((at for part, at in peaks.items() if part in text), 1.0)
        strength = 0.1 if text == "naive" else float(text.split("strength=")[1].split(",")[0])
        return {"seed": seed, "average accuracy": -abs(math.log(strength / at)), "forgetting": 0.1}

    monkeypatch.setattr(intact, "measured", fake)
    found = Findings()
    results, top = on_a_head((digit_domains(), HEAD, frozen_features), Scale(seeds=(0, 1)), found)
    assert top == f"{peak:g}"
    assert set(results.arms) == {*(f"{strength:g}" for strength in STRENGTHS), top, *RIVALS}
    assert seen == {*TUNING_SEEDS, 0, 1}
    words = f"on seeds {', '.join(map(str, TUNING_SEEDS))}, by average accuracy on a head"
    rivals = {"ewc": "3.0", "online ewc": "300.0", "lwf": "1.0"}
    assert found.measured[f"chosen {words}"] == {"drift alone": str(peak), **rivals}
    assert "300.0" in found.measured[f"scores of the search {words}"]["online ewc"]
