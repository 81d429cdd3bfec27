"""Paper `nalaformer`: entropies over norms, the recall task, and how the parts make a verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from letheon.papers import catalogue, nalaformer
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.nalaformer import FROZEN, NORMS, PAIRS, arms, entropies, judge, largest_gap, questions, recall
from letheon.papers.outcome import Scale

SEEDS = tuple(range(10))


def curve(softmax: float = 0.5, norm_aware: float = 0.4, relu: float = 0.0) -> dict[str, list[float]]:
    """Falls of the entropy between the shortest and the longest query."""
    falls = {"softmax": softmax, "norm-aware": norm_aware, "relu": relu, "elu + 1": 0.02}
    return {name: [5.0, *[5.0 - fall / 2] * (len(NORMS) - 2), 5.0 - fall] for name, fall in falls.items()}


def recalls(norm_aware: float, frozen: float, relu: float = 0.7) -> Results:
    others = {"softmax": 1.0, "relu": relu, "norm-aware": norm_aware, "norm over 4": 0.9, "positive half only": 0.7}
    arms = (others | dict.fromkeys(FROZEN, frozen)).items()
    return Results({name: [{"recall": x + seed / 1000} for seed in SEEDS] for name, x in arms})


@pytest.mark.parametrize(
    ("curves", "gap", "recalled", "verdict"),
    [
        (curve(), 1e-6, recalls(0.9, 0.72), "holds"),
        (curve(), 1e-6, recalls(0.9, 0.89), "fails"),  # frozen, the power does as well
        (curve(), 1e-6, recalls(0.6, 0.6), "fails"),  # not above relu: nothing is left to lose
        (curve(), 1e-3, recalls(0.9, 0.72), "inconclusive"),
        (curve(relu=0.1), 1e-6, recalls(0.9, 0.72), "inconclusive"),
        (curve(norm_aware=0.0), 1e-6, recalls(0.9, 0.72), "fails"),
    ],
)
@pytest.mark.usefixtures("noise_over_seeds")
def test_every_part_of_the_claim_is_needed(curves: Any, gap: float, recalled: Any, verdict: str) -> None:
    # seeds must differ a little, or there is no interval
    seeded = [{name: [x + s * 1e-9 * (i + 1) for i, x in enumerate(y)] for name, y in curves.items()} for s in SEEDS]
    result = Findings(primary=nalaformer.PRIMARY)
    judge(seeded, [gap] * 10, recalled, result)
    assert result.verdict == verdict
    assert set(result.intervals) <= set(result.measured)


@pytest.mark.oracle("nalaformer")
def test_entropies_of_short_queries_are_nearly_even_for_softmax_and_constant_for_relu() -> None:
    found = entropies(0, queries=16, keys=64, width=8)
    assert found["softmax"][0] == pytest.approx(math.log(64), abs=0.01)
    assert found["softmax"] == sorted(found["softmax"], reverse=True)
    assert max(found["relu"]) - min(found["relu"]) < 1e-9
    assert found["norm-aware"][0] - found["norm-aware"][-1] > 0.1
    assert largest_gap(0, n=100) < 1e-5


def test_every_key_is_asked_once_and_has_one_value() -> None:
    (keys, values, asked), wanted = questions(5, torch.Generator().manual_seed(0))
    for row in range(5):
        pairs = dict(zip(keys[row].tolist(), values[row].tolist(), strict=True))
        assert len(pairs) == PAIRS
        assert sorted(asked[row].tolist()) == sorted(pairs)
        assert [pairs[key] for key in asked[row].tolist()] == wanted[row].tolist()


def test_softmax_learns_to_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"KEYS": 16, "PAIRS": 8, "VALUES": 8, "BATCH": 32, "TESTED": 50}.items():
        monkeypatch.setattr(nalaformer, name, value)
    assert recall(arms()["softmax"], 0, 150) > 0.9
    assert recall(arms()["relu"], 0, 5) < 0.5


def test_a_run_has_all_arms_and_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nalaformer, "recall", lambda attend, seed, steps: 0.5 + seed / 100)
    outcome = catalogue.paper("nalaformer").reproduce(Scale(seeds=(0, 1)))
    assert len(outcome.rows) == 2 * len(arms())
    assert outcome.figures["entropy"].startswith("<svg")
    assert outcome.verdict in ("fails", "inconclusive")
