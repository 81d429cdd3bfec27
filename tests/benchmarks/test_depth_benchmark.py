"""The benchmark of depth: curves beside the reference's, roundings, options."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.forget_worlds import World

from benchmarks import depth
from letheon.audit.attacks.relearning import RelearnPoint
from letheon.audit.plan import AuditPlan, Settings, make_plan
from letheon.core.model.models import LanguageModel, load
from letheon.forget.request import Request


def test_the_excess_is_the_largest_difference_at_one_step() -> None:
    curves = [
        [RelearnPoint(step, probability, recall) for step, (probability, recall) in enumerate(points)]
        for points in (((0.9, 0.0), (0.5, 1.0), (0.1, 0.0)), ((0.2, 0.0), (0.3, 0.5), (0.2, 0.0)))
    ]
    assert depth.excess(*curves, "probability") == 0.2
    assert depth.excess(*reversed(curves), "probability") == 0.1
    assert depth.excess(*curves, "recall") == 0.5


def test_a_depth_is_measured_beside_the_reference(tiny: LanguageModel, deletion: Request, tmp_path: Path) -> None:
    for role in ("before", "reference"):
        tiny.save(tmp_path / role)
    made = World(deletion, str(tmp_path / "before"), str(tmp_path / "reference"))
    (row,) = depth.measure(made, 0, "fact_spans", ["shallow"], 2, 1)
    kinds = {f"{what}, {rows}" for what in ("all weights", "lora") for rows in ("forgotten", "kept")}
    assert set(row["relearned"]) == set(row["recalled"]) == set(row["curves"]["after"]) == kinds
    assert [point["step"] for point in row["curves"]["reference"]["lora, kept"]] == [0, 1, 2]
    assert set(row["rounded"]) == {"8", "4", "Q8_0", "Q4_0"}


def test_what_the_model_after_shows_is_measured_from_what_the_reference_shows(
    tiny: LanguageModel, deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each difference is the model after's less the reference's, of the measurement that bears its name."""
    for role in ("before", "reference"):
        tiny.save(tmp_path / role)
    after = load("tiny", device="cpu")
    told = {"after": (0.5, 0.25, 0.75, 0.9), "reference": (0.1, 0.125, 0.5, 0.3)}

    def of(model: LanguageModel) -> tuple[float, ...]:
        return told["after" if model is after else "reference"]

    def relearned(model: LanguageModel, plan: AuditPlan, steps: int, every: int) -> depth.Curves:
        assert (steps, every) == (20, 5)
        return {"all weights, forgotten": [RelearnPoint(step, *of(model)[:2]) for step in (0, 5)]}

    monkeypatch.setattr(depth, "forget", lambda *_, **options: SimpleNamespace(model=after, **options))
    monkeypatch.setattr(depth, "relearned", relearned)
    monkeypatch.setattr(depth, "rounded", lambda model, rows: {"4": of(model)[2]})
    monkeypatch.setattr(depth, "options_share", lambda model, request: of(model)[3])
    made = World(deletion, str(tmp_path / "before"), str(tmp_path / "reference"))
    (row,) = depth.measure(made, 0, "alternates", ["deep"], 20, 5)
    assert row["depth"] == "deep"
    assert row["relearned"] == {"all weights, forgotten": 0.4}
    assert row["recalled"] == {"all weights, forgotten": 0.125}
    assert (row["rounded"], row["options_excess"]) == ({"4": 0.25}, 0.6)
    assert row["curves"]["after"]["all weights, forgotten"][1]["probability"] == 0.5


def test_deletions_stand_between_models_of_known_depth(
    tiny: LanguageModel, deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(tmp_path / "before")
    for weight in tiny.model.parameters():
        weight.data.add_(torch.randn_like(weight), alpha=0.1)
    tiny.save(tmp_path / "reference")
    before, reference = str(tmp_path / "before"), str(tmp_path / "reference")
    monkeypatch.setattr(depth, "forget", lambda *_, **options: SimpleNamespace(model=tiny, **options))
    monkeypatch.setattr(depth, "refusing", lambda made, seed: load(made.before))
    found = list(depth.known(World(deletion, before, reference), reference, 0, "alternates", ["deep"]))
    scores = {row["model"]: row["score"] for row in found}
    assert scores == {"before": 0, "refusing": 0, "deep": 1, "retrained again": 1}
    assert found[0]["fall"] == found[0]["kept"] == 0
    assert len(found[0]["scores"]) == len(deletion.forget)


def test_the_watched_rows_are_those_that_are_not_trained_on(
    tiny: LanguageModel, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny, deletion, Settings(seed=0))
    calls: list[dict[str, Any]] = []

    def relearn(model: LanguageModel, rows: Any, watched: Any, **options: Any) -> list[RelearnPoint]:
        calls.append({"rows": rows, "watched": watched, **options})
        return []

    monkeypatch.setattr(depth, "relearn", relearn)
    assert len(depth.relearned(tiny, plan, 20, 5)) == len(calls) == 4
    assert {(one["rank"], one["learning_rate"]) for one in calls} == {(0, 5e-5), (8, 2e-4)}
    forgotten = {row.id for row in deletion.forget}
    for one, kept in zip(calls, (False, True) * 2, strict=True):
        trained, watched = ({row.id for row in rows} for rows in (one["rows"], one["watched"]))
        assert watched <= forgotten
        assert trained
        assert not trained & watched
        assert (not trained & forgotten) if kept else trained <= forgotten
