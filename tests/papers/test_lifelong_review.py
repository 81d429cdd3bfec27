"""The review's table: what is judged, and one seed of both ends of it."""

from __future__ import annotations

import pytest

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.lifelong_review import ARMS, PRIMARY, TUNED, judge, measured, tuned


def rows(accuracy: float, forgetting: float) -> list[dict[str, float]]:
    return [{"average accuracy": accuracy + i / 1000, "forgetting": forgetting} for i in range(10)]


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_judged_part_by_part() -> None:
    classes = dict.fromkeys(("naive", "ewc", "si"), rows(0.2, 0.9)) | dict.fromkeys(("replay", "der"), rows(0.9, 0.1))
    tasks = {"naive": rows(0.9, 0.1)} | dict.fromkeys(TUNED, rows(0.98, 0.01))
    found, worse = Findings(primary=PRIMARY), Findings(primary=PRIMARY)
    judge({"class": Results(classes), "task": Results(tasks)}, found)
    assert set(found.parts.values()) == {"holds"}
    judge({"class": Results(classes), "task": Results(tasks | {"ewc": rows(0.9, 0.1)})}, worse)
    assert worse.parts["task, ewc: forgetting minus half of naive's"] == "fails"


@pytest.mark.parametrize("name", ["replay", "ewc"])
def test_one_seed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in (*ARMS["class"], *TUNED)
    training = {"epochs": 3, "batch_size": 32, "learning_rate": 0.1, "clip": 5.0}
    monkeypatch.setattr("letheon.papers.lifelong_review.TRAINING", training)
    found = measured(name, "class", 0)
    assert (found["average accuracy"] > 0.5) == (name == "replay")
    assert found["largest change"] > 0


def test_settings_are_tuned_by_forgetting_where_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy and forgetting by strength: the least forgetting among those not below naive training's accuracy."""
    of = {"naive": (0.9, 0.1), "1": (0.97, 0.05), "3": (0.92, 0.01), "10": (0.8, 0.0)}

    def run(text: str, scenario: str, seed: int) -> dict[str, float]:
        accuracy, forgetting = of[text]
        return {"average accuracy": accuracy, "forgetting": forgetting}

    monkeypatch.setattr("letheon.papers.lifelong_review.measured", run)
    monkeypatch.setattr("letheon.papers.lifelong_review.TUNED", {"lwf": ["1", "3", "10"]})
    assert tuned("lwf", "task") == "3"
    assert tuned("lwf", "class") == "1"
