"""Paper `gated-swinrmt`: arms of equal size, images with and without MNIST, a short run, the verdict."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from letheon.attend.gated_swinrmt import GatedSwinRMT
from letheon.papers import catalogue, gated_swinrmt
from letheon.papers.gated_swinrmt import PAIRS, Images, arms, images, judge, run
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def runs(**accuracies: float) -> Results:
    """Ten seeds; names of arms with underscores for their blanks."""
    base = dict.fromkeys(arms(4), 0.9) | {name.replace("_", " "): value for name, value in accuracies.items()}
    shared = {"loss": 0.1, "gate_open": 0.5, "gate_closed": 0.0, "parameters": 1000}
    return Results(
        {name: [{"accuracy": x + x * seed / 1000, **shared} for seed in range(10)] for name, x in base.items()}
    )


def judged(results: Results) -> Findings:
    found = Findings()
    judge(results, found)
    return found


def test_a_verdict_needs_every_difference() -> None:
    assert judged(runs(retention=0.95, swat=0.96)).verdict == "holds"
    assert judged(runs(retention=0.95, swat=0.85)).verdict == "fails"
    result = judged(runs())
    assert set(result.intervals) == set(PAIRS) == set(result.parts)
    assert result.checks == {"equal parameters": True}
    assert result.verdict == "inconclusive"


@pytest.mark.oracle("gated-swinrmt")
def test_arms_have_equal_parameters() -> None:
    sizes = {}
    for name, settings in arms(7).items():
        with torch.device("meta"):
            model = GatedSwinRMT(settings, num_classes=10, in_chans=1)
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    assert max(sizes.values()) < 1.001 * min(sizes.values()), sizes


def test_without_mnist_it_is_the_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETHEON_DATA", raising=False)
    found = images(0)
    assert found.name == "scikit-learn's digits"
    assert found.train[0].shape == (1000, 1, 8, 8)
    assert found.test[0].shape == (797, 1, 8, 8)
    assert not torch.equal(images(1).train[1], found.train[1])


def test_real_mnist_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (DATA / "mnist_10k" / "mnist_10k.npz").is_file():
        pytest.skip(f"no mnist_10k in {DATA}: set LETHEON_DATA")
    monkeypatch.setenv("LETHEON_DATA", str(DATA))
    found = images(0)
    assert found.name == "MNIST"
    assert found.train[0].shape == (1000, 1, 28, 28)
    assert len(found.train[1].unique()) == len(found.test[1].unique()) == 10


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.delenv("LETHEON_DATA", raising=False)
    monkeypatch.setattr(gated_swinrmt, "BATCH", 10)
    return images(0)._replace(test=tuple(part[:50] for part in images(0).test))


@pytest.mark.parametrize("name", arms(4))
def test_every_arm_trains(few: Images, name: str) -> None:
    found = run(name, few, 0, steps=3)
    assert 0 <= found["accuracy"] <= 1
    assert found["loss"] < 4
    assert (found["gate_open"] is None) is (name != "retention")
    assert run(name, few, 0, steps=3) == found


def test_an_outcome_has_rows_and_a_figure(few: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_swinrmt, "images", lambda seed: few)
    monkeypatch.setattr(gated_swinrmt, "run", lambda name, data, seed, steps, device: runs().arms[name][seed])
    outcome = catalogue.paper("gated-swinrmt").reproduce(Scale(seeds=(0, 1)))
    assert len(outcome.rows) == 10
    assert outcome.figures["decay"].startswith("<svg")
    assert outcome.measured["images"] == "scikit-learn's digits"
