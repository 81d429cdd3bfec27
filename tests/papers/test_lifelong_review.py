"""The review's table: what is judged, and one seed of both ends of it."""

from __future__ import annotations

import pytest

from letheon.papers.lifelong_review import OTHERS, TUNED, judge, measured


def rows(accuracy: float, forgetting: float) -> list[dict[str, float]]:
    return [{"average accuracy": accuracy + i / 1000, "forgetting": forgetting} for i in range(3)]


def test_the_claim_is_judged_part_by_part() -> None:
    runs = {("class", name): rows(0.2, 0.9) for name in ("naive", "ewc", "si")}
    runs |= {("class", name): rows(0.9, 0.1) for name in ("replay", "der")}
    runs |= {("task", "naive"): rows(0.9, 0.1)} | {("task", name): rows(0.98, 0.01) for name in TUNED}
    assert {found.verdict for found in judge(runs).values()} == {"holds"}
    runs["task", "ewc"] = rows(0.9, 0.1)
    assert judge(runs)["task, ewc: forgetting minus half of naive's"].verdict == "fails"


@pytest.mark.parametrize("name", ["replay", "ewc"])
def test_one_seed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in (*OTHERS, *TUNED)
    training = {"epochs": 3, "batch_size": 32, "learning_rate": 0.1, "clip": 5.0}
    monkeypatch.setattr("letheon.papers.lifelong_review.TRAINING", training)
    found = measured(name, "class", 0)
    assert (found["average accuracy"] > 0.5) == (name == "replay")
    assert found["largest change"] > 0
