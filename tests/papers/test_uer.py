"""UER's claim: what is judged, and one run of either side."""

from __future__ import annotations

import pytest

from letheon.papers.uer import ARMS, GAPS, figures, judge, measured


def rows(average: float, old: float, newest: float, gap: float) -> list[dict[str, object]]:
    return [
        {"average": average + i / 1000, "old tasks": old, "newest task": newest, **dict.fromkeys(GAPS, gap),
         "logit gaps": [gap, gap]}
        for i in range(3)
    ]  # fmt: skip


def test_the_claim_is_about_average_and_old_tasks_and_the_rest_stands_beside_it() -> None:
    runs = {name: rows(0.6, 0.5, 0.8, 3.0) for name in ARMS} | {"uer": rows(0.7, 0.8, 0.4, 2.0)}
    judged, beside = judge(runs)
    assert {name: found.verdict for name, found in judged.items()} == {
        "average: uer minus replay": "holds",
        "old tasks: uer minus replay": "holds",
    }
    assert beside["logit gap: uer below replay"].verdict == "holds"
    assert beside["newest task: uer above replay"].verdict == "fails"
    judged, _ = judge(runs | {"uer": rows(0.5, 0.8, 0.4, 2.0)})
    assert judged["average: uer minus replay"].verdict == "fails"
    assert all(svg.startswith("<svg") for svg in figures(runs).values())


def test_one_seed() -> None:
    replay, uer = (measured(ARMS[name], 0) for name in ("replay", "uer"))
    assert uer["old tasks"] > replay["old tasks"]
    assert uer["logit gap"] < replay["logit gap"]
    assert uer["old tasks, by cosines"] < uer["old tasks"] - 0.2, "predicting by cosines after UER collapses"
    assert len(uer["logit gaps"]) == 4
    assert uer["average"] == pytest.approx((4 * uer["old tasks"] + uer["newest task"]) / 5)
