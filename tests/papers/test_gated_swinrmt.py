"""Paper `gated-swinrmt`: arms of equal size, images with a motif among distractors, a short run, the verdict."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from letheon.attend.gated_swinrmt import GatedSwinRMT
from letheon.papers import catalogue, gated_swinrmt
from letheon.papers.gated_swinrmt import BESIDE, BOX, PAIRS, POINTS, SIDE, arms, images, judge, measured, motifs
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale


def runs(**accuracies: float) -> Results:
    """Ten seeds; names of arms with underscores for their blanks."""
    base = dict.fromkeys(arms(), 0.9) | {name.replace("_", " "): value for name, value in accuracies.items()}
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
    assert set(result.parts) == set(PAIRS)
    assert set(result.intervals) == {*PAIRS, *BESIDE}
    assert result.checks == {"equal parameters": True}
    assert result.verdict == "inconclusive"


@pytest.mark.oracle("gated-swinrmt")
def test_arms_have_equal_parameters() -> None:
    sizes = {}
    for name, settings in arms().items():
        with torch.device("meta"):
            model = GatedSwinRMT(settings, num_classes=8, in_chans=1)
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    assert max(sizes.values()) < 1.001 * min(sizes.values()), sizes


def test_the_motif_of_its_class_lies_in_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_swinrmt, "NOISE", 0.0)
    (pixels,), classes = images(40, torch.Generator().manual_seed(0))
    assert pixels.shape == (40, 1, SIDE, SIDE)
    assert len(classes.unique()) == len(motifs().unique(dim=0)) == 8
    patches = torch.nn.functional.unfold(pixels, BOX).mT  # [images, places, BOX x BOX]
    complete = (patches @ motifs().T == POINTS).any(1)
    assert complete[torch.arange(40), classes].all()
    assert complete.float().mean() < 0.2, "the other classes' motifs are there by chance alone"
    assert POINTS < pixels.sum() / 40 <= 3 * POINTS


@pytest.mark.parametrize("name", arms())
def test_every_arm_trains(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(gated_swinrmt, "BATCH", 8)
    monkeypatch.setattr(gated_swinrmt, "TESTED", 30)
    found = measured(name, 3e-3, 100, steps=2)
    assert 0 <= found["accuracy"] <= 1
    assert found["loss"] < 4
    assert (found["gate_open"] is None) is (name not in ("retention", "retention, no decay"))
    assert measured(name, 3e-3, 100, steps=2) == found


def test_rates_are_chosen_on_a_seed_that_is_not_judged_and_an_outcome_has_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fake(arm: str, rate: float, seed: int, steps: int, device: str = "cpu") -> dict[str, Any]:
        seen.append(seed)
        return {**runs().arms[arm][seed % 10], "accuracy": rate + seed / 1000}

    monkeypatch.setattr(gated_swinrmt, "measured", fake)
    outcome = catalogue.paper("gated-swinrmt").reproduce(Scale(seeds=(0, 1)))
    assert {seed for seed in seen if seed > 1} == {100, 101}
    assert set(outcome.measured["chosen on seeds 100, 101"].values()) != {str(gated_swinrmt.RATES[0])}
    assert len(outcome.rows) == 2 * len(arms())
    assert outcome.figures["decay"].startswith("<svg")
