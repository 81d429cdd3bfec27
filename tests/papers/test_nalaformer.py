"""Paper `nalaformer`: entropies over norms, the task of two sharpnesses, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.papers import catalogue, nalaformer
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.nalaformer import (
    AUTHORS,
    BROAD,
    CANDIDATES,
    FROZEN,
    NORMS,
    OURS,
    PRIMARY,
    RELU,
    check,
    entropies,
    judge,
    largest_gap,
    measured,
    questions,
)
from letheon.papers.outcome import Scale

SEEDS = range(10)


def curve(softmax: float = 0.5, norm_aware: float = 0.4, relu: float = 0.0) -> dict[str, list[float]]:
    """Falls of the entropy between the shortest and the longest query."""
    falls = {"softmax": softmax, OURS: norm_aware, RELU: relu, "elu + 1": 0.02}
    return {name: [5.0, *[5.0 - fall / 2] * (len(NORMS) - 2), 5.0 - fall] for name, fall in falls.items()}


def accuracies(norm_aware: float, frozen: float, relu: float = 0.7, spread: float = 1.0) -> Results:
    values = {"softmax": 1.0, RELU: relu, "elu + 1": 0.75, OURS: norm_aware, FROZEN: frozen, "positive half only": 0.7}
    values[AUTHORS] = norm_aware

    def row(x: float, seed: int) -> dict[str, float]:
        return dict.fromkeys(("accuracy", "sharp", "broad"), x + seed / 1000) | {"spread of the power": spread}

    return Results({name: [row(x, seed) for seed in SEEDS] for name, x in values.items()})


@pytest.mark.parametrize(
    ("curves", "gap", "results", "verdict"),
    [
        (curve(), 1e-6, accuracies(0.9, 0.8), "holds"),
        (curve(), 1e-6, accuracies(0.9, 0.92), "fails"),  # a fixed power does better
        (curve(), 1e-6, accuracies(0.6, 0.5), "fails"),  # not above relu
        (curve(), 1e-6, accuracies(0.9, 0.8, spread=0.01), "inconclusive"),  # all queries have one power
        (curve(), 1e-3, accuracies(0.9, 0.8), "inconclusive"),
        (curve(relu=0.1), 1e-6, accuracies(0.9, 0.8), "inconclusive"),
        (curve(norm_aware=0.0), 1e-6, accuracies(0.9, 0.8), "inconclusive"),
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_every_part_and_every_check_is_needed(curves: Any, gap: float, results: Any, verdict: str) -> None:
    found = Findings(primary=PRIMARY)
    check([curves] * 10, [gap] * 10, found)
    judge(results, found)
    assert found.verdict == verdict


@pytest.mark.oracle("nalaformer")
def test_entropies_of_short_queries_are_nearly_even_for_softmax_and_constant_for_relu() -> None:
    found = entropies(0, queries=16, keys=64, width=8)
    assert found["softmax"][0] == pytest.approx(math.log(64), abs=0.01)
    assert found["softmax"] == sorted(found["softmax"], reverse=True)
    assert max(found["relu"]) - min(found["relu"]) < 1e-9
    assert found["norm-aware"][0] - found["norm-aware"][-1] > 0.1
    assert largest_gap(0, n=100) < 1e-5


def test_sharp_questions_want_the_nearest_place_and_broad_ones_the_weight_around() -> None:
    (places, values, asked, kinds), wanted = questions(3, torch.Generator().manual_seed(0))
    differ = 0
    for n, at in ((n, at) for n in range(3) for at in range(asked.shape[1])):
        cosines = [float(asked[n, at] @ place) for place in places[n]]
        nearest = int(values[n, cosines.index(max(cosines))])
        weight = dict.fromkeys(values[n].tolist(), 0.0)
        for cosine, value in zip(cosines, values[n].tolist(), strict=True):
            weight[value] += math.exp(BROAD * cosine)
        around = max(weight, key=lambda value: weight[value])
        assert int(wanted[n, at]) == (around if int(kinds[n, at]) else nearest)
        differ += around != nearest
    assert differ > 20


def test_a_run_measures_both_kinds_and_the_power_of_the_norm_aware_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nalaformer, "TESTED", 20)
    monkeypatch.setattr(nalaformer, "BATCH", 4)
    ours = measured(OURS, CANDIDATES[OURS][0], 100, 3)
    assert 0 <= ours["spread of the power"] < 3.0
    assert ours["accuracy"] == pytest.approx((ours["sharp"] + ours["broad"]) / 2, abs=0.05)
    assert measured(RELU, CANDIDATES[RELU][0], 100, 3)["spread of the power"] is None


def test_the_best_setting_is_chosen_on_tuning_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def fake(arm: str, setting: tuple[float, ...], seed: int, steps: int) -> dict[str, float]:
        seen.add(seed)
        value = -abs(math.log(setting[-1] / 6e-3)) + seed / 1000 - abs(math.log(setting[0])) * (len(setting) == 2)
        return {"accuracy": value, "sharp": 0.5, "broad": 0.5, "spread of the power": 0.5 + seed / 100}

    monkeypatch.setattr(nalaformer, "measured", fake)
    outcome = catalogue.paper("nalaformer").reproduce(Scale(seeds=(0, 1)))
    assert seen == {0, 1, 100, 101}
    assert outcome.measured["chosen on seeds 100, 101"][OURS] == "(1.0, 0.006)"
    assert outcome.measured["chosen on seeds 100, 101"][FROZEN] == "(0.75, 0.006)", "beyond the grid"
    assert len(outcome.rows) == 2 * len(CANDIDATES)
    assert outcome.figures["entropy"].startswith("<svg")
