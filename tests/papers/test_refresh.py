"""The framework's special cases, what is said of refresh, and one short run of each kind."""

from __future__ import annotations

import math

import pytest
import torch

from letheon.papers import refresh
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.refresh import (
    ARMS,
    EXACT,
    PLAIN,
    PRIMARY,
    TRIED,
    TUNING_SEEDS,
    difference,
    figures,
    measured,
    report_effects,
    sharpness,
    special_cases,
    tuned,
)
from letheon.retain.composition import read_strategy
from letheon.retain.learn import make_learner
from letheon.retain.models import mlp
from letheon.retain.row_gradients import flat, unflat
from letheon.retain.settings import LearnSettings
from letheon.testing.strategies import sample_stream


def test_every_row_of_the_table_is_exact() -> None:
    assert set(special_cases()) == {"ER", "DER", "LwF", "CPR", "EWC", "VCL"}
    assert max(difference(case, 1) for case in special_cases().values()) < EXACT


@pytest.mark.usefixtures("noise_over_seeds")
def test_effects_are_differences_from_no_refresh() -> None:
    def rows(accuracy: float, curvature: float) -> list[dict[str, float]]:
        return [{"average accuracy": accuracy + i / 1000, "sharpness": curvature, "forgetting": 0.1} for i in range(10)]

    runs, found = Results({PLAIN: rows(0.7, 10.0), "better": rows(0.8, 5.0), "worse": rows(0.6, 20.0)}), Findings()
    report_effects(runs, found)
    assert list(found.beside.values()) == ["holds", "holds", "fails", "fails"]
    better = Results({PLAIN: rows(0.7, 10.0), **{f"{name}, tuned": rows(0.8, 5.0) for name in TRIED}})
    decided = Findings(primary=PRIMARY)
    report_effects(better, decided)
    assert (decided.verdict, set(decided.parts)) == ("holds", set(PRIMARY))
    assert "paper's form without noise, tuned: average accuracy above no refresh" in decided.beside
    assert set(figures(runs)) == {"average accuracy", "sharpness"}


def test_each_form_has_the_step_that_is_best_on_the_tuning_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, seen = {"refresh_release": 3e-4, "refresh:noise": 1e-4, "refresh:rate": 1e-3}, []

    def fake(text: str, seed: int, sharp: bool) -> dict[str, float]:
        seen.append((text, seed))
        peak = next(peak for form, peak in peaks.items() if form in text)
        noise = 0.5 if "noise" in text else 0.0
        return {"average accuracy": noise - abs(math.log(float(text.rpartition("=")[2]) / peak))}

    monkeypatch.setattr(refresh, "measured", fake)
    found = Findings()
    assert tuned(found) == {
        "code's form, tuned": "der:capacity=100+refresh_release:size=0.0003",
        "paper's form, tuned": "der:capacity=100+refresh:noise=1.0,rate=0.0001",
        "paper's form without noise, tuned": "der:capacity=100+refresh:rate=0.001",
    }
    assert {seed for _, seed in seen} == set(TUNING_SEEDS)
    assert len(seen) == len(set(seen)), "settings that two forms share run once"
    (search,) = (value for name, value in found.measured.items() if name.startswith("scores of the search"))
    assert {form: len(scores) for form, scores in search.items()} == {form: len(tried) for form, tried in TRIED.items()}


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian() -> None:
    """Against the eigenvalues of the whole matrix, of a network that is small enough."""
    stream = sample_stream()
    learner = make_learner(mlp([8, 3, 6]), stream, read_strategy("naive"), LearnSettings())
    rows = [learner.train_rows(task) for task in stream]
    inputs, targets = (torch.cat([getattr(part, name) for part in rows]) for name in ("inputs", "targets"))

    def loss(vector: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(learner.parameters, unflat(vector, learner.weights), strict=True))
        outputs = torch.func.functional_call(learner.model, weights, (inputs,))
        return torch.nn.functional.cross_entropy(outputs, targets)

    hessian = torch.func.hessian(loss)(flat(learner.weights).detach())
    values = torch.linalg.eigvalsh(hessian)
    exact = float(values[values.abs().argmax()])
    assert sharpness(learner, rounds=300) == pytest.approx(exact, rel=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [PLAIN, "code's form, 0.001", "paper's form, 0.02"])
def test_one_seed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"epochs": 1, "batch_size": 32, "learning_rate": 0.05, "weight_decay": 1e-4}
    monkeypatch.setattr("letheon.papers.refresh.TRAINING", training)
    found = measured(ARMS[name], 0)
    assert found["average accuracy"] > 0.15
    assert found["sharpness"] > 0
