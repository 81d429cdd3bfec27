"""The benchmark of depth: curves beside the reference's, roundings, options."""

from __future__ import annotations

from pathlib import Path

from benchmarks.forget_worlds import World

from benchmarks import depth
from letheon.audit.attacks.relearning import RelearnPoint
from letheon.core.model.models import LanguageModel
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
