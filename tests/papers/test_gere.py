"""GeRe: what is judged, the choice of rates, the two tasks, and one short seed of each arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from letheon.papers import gere
from letheon.papers.gere import (
    ABILITY,
    ARMS,
    FEATURES,
    LABELS,
    MARGIN,
    NONE,
    OLD,
    PRIMARY,
    TASKS,
    figures,
    judge,
    make_stream,
    measured,
    read,
    replayed_and_held_out,
    worth,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results


def rows(rise: float, flipped: float, old: float, new: float = 0.9, learned: float = 1.0) -> list[dict[str, Any]]:
    metrics = {"flipped": flipped, "old task": old, "new task": new, "old task, when learned": learned}
    return [{"rise": rise + i / 1000, "rises": [0.0, rise, rise], **metrics} for i in range(10)]


def judged(runs: Mapping[str, Any]) -> Findings:
    found = Findings(primary=PRIMARY)
    judge({ABILITY: Results(runs), OLD: Results(runs)}, found)
    return found


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_judged_part_by_part() -> None:
    good = {
        NONE: rows(0.6, 0.2, 0.0),
        LABELS: rows(0.1, 0.1, 0.5),
        MARGIN: rows(0.05, 0.05, 0.6),
        FEATURES: rows(0.1, 0.1, 0.6),
    }
    found = judged(good)
    assert found.verdict == "holds"
    assert set(found.parts) == set(PRIMARY)
    assert set(found.beside.values()) == {"holds"}
    found = judged(good | {LABELS: rows(-0.2, 0.3, -0.5)})
    failed = {part for part, verdict in found.parts.items() if verdict == "fails"}
    assert failed == {PRIMARY[1], PRIMARY[2], "old task: cross-entropy above no replay"}
    assert set(figures(Results(good))) == {"perplexity", "accuracies"}


@pytest.mark.usefixtures("noise_over_seeds")
@pytest.mark.parametrize(("task", "short"), [("old", {"learned": 0.5}), ("new", {"new": 0.5})])
def test_an_arm_that_has_not_learned_a_task_decides_nothing(task: str, short: dict[str, float]) -> None:
    runs = {NONE: rows(0.6, 0.2, 0.0), LABELS: rows(0.1, 0.1, 0.5), FEATURES: rows(0.1, 0.1, 0.6)}
    found = judged(runs | {MARGIN: rows(0.05, 0.05, 0.6, **short)})
    unmet = {name for name, met in found.checks.items() if not met}
    assert unmet == {f"margin, rate by {judged}, had learned the {task} task" for judged in (ABILITY, OLD)}
    assert set(found.parts.values()) == {"holds"}
    assert found.verdict == "inconclusive"


def test_a_rate_is_chosen_by_what_is_judged_among_those_that_learn_both_tasks() -> None:
    def row(rise: float, old: float, learned: float = 1.0, new: float = 1.0) -> dict[str, float]:
        return {"rise": rise, "old task": old, "old task, when learned": learned, "new task": new}

    runs = {1e-4: row(0.0, 1.0, learned=0.5), 1e-3: row(0.1, 0.5), 2e-3: row(0.2, 0.9), 3e-3: row(0.3, 1.0, new=0.8)}
    assert max(runs, key=lambda rate: worth(runs[rate], ABILITY)) == 1e-3
    assert max(runs, key=lambda rate: worth(runs[rate], OLD)) == 2e-3
    assert worth(runs[3e-3], OLD) > worth(runs[1e-4], OLD), "it comes nearer to learning both"


def test_statements_that_are_tested_are_not_learned() -> None:
    for task in make_stream(0):
        train, test = ({row.prompt for row in part} for part in (task.train, task.test))
        assert not train & test
        assert {row.answer for row in task.test} == {"yes", "no"}
    assert [task.name for task in make_stream(1)] == list(TASKS)
    assert make_stream(0).tasks[0].train != make_stream(1).tasks[0].train


def test_a_sentence_that_measures_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gere, "READ", 3)
    monkeypatch.setattr(gere, "REPLAYED", 2)
    assert replayed_and_held_out(["a", "b", "c", "a"]) == (["b"], ["a"])


@pytest.mark.slow
def test_one_short_seed_of_each_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed sentences are none of those that measure, and every arm changes what it says of them."""
    monkeypatch.setattr(gere, "TRAIN", 20)
    monkeypatch.setattr(gere, "TEST", 10)
    monkeypatch.setattr(gere, "READ", 60)
    monkeypatch.setattr(gere, "HELD_OUT", 10)
    monkeypatch.setattr(gere, "REPLAYED", 10)
    monkeypatch.setattr(gere, "TRAINING", {"epochs": 1, "batch_size": 10})
    read.cache_clear()
    _, replayed, held_out = read(100, False, 2)
    assert not set(replayed) & set(held_out)
    rises = set()
    for name in ARMS:
        found = measured(name, 3e-3, 100, steps=2)
        assert found["rises"][0] == 0.0
        assert found["rise"] == found["rises"][2] != 0.0
        assert 0 < found["flipped"] < 1
        rises.add(found["rise"])
    assert len(rises) == len(ARMS)
    read.cache_clear()
    measured.cache_clear()
