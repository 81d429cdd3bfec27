"""The framework's special cases, what is said of refresh, and one short run of each kind."""

from __future__ import annotations

import pytest
import torch

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.refresh import (
    ARMS,
    EXACT,
    PLAIN,
    PRIMARY,
    TRIED,
    difference,
    figures,
    measured,
    report_effects,
    sharpness,
    special_cases,
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
    tuned = Results({PLAIN: rows(0.7, 10.0), **{f"{name}, tuned": rows(0.8, 5.0) for name in TRIED}})
    decided = Findings(primary=PRIMARY)
    report_effects(tuned, decided)
    assert decided.verdict == "holds"
    assert set(figures(runs)) == {"average accuracy", "sharpness"}


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
