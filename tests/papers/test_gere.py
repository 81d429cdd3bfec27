"""GeRe: what is judged, the two tasks, and one seed of each arm on a tiny model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from letheon.papers.gere import ARMS, LABELS, MARGIN, NONE, TASKS, figures, judge, make_stream, measured, paragraphs
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results


def rows(rise: float, flipped: float, old: float, new: float = 0.9) -> list[dict[str, Any]]:
    return [
        {"rise": rise + i / 1000, "flipped": flipped, "old task": old, "new task": new, "rises": [0.0, rise, rise]}
        for i in range(10)
    ]


def judged(runs: Mapping[str, Any]) -> Findings:
    found = Findings()
    judge(Results(runs), found)
    return found


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_judged_part_by_part() -> None:
    runs = {NONE: rows(0.6, 0.2, 0.0), LABELS: rows(0.1, 0.1, 0.5), MARGIN: rows(0.1, 0.05, 0.6)}
    found = judged(runs)
    assert {*found.parts.values(), *found.beside.values()} == {"holds"}
    runs[LABELS] = rows(-0.2, 0.3, 0.5)
    found = judged(runs)
    assert found.parts["flipped: no replay above cross-entropy"] == "fails"
    assert found.parts["rise: margin no larger than cross-entropy"] == "fails"
    assert set(figures(Results(runs))) == {"perplexity", "accuracies"}


def test_words_that_are_tested_are_not_learned() -> None:
    for task in make_stream(0):
        train, test = ({row.id for row in part} for part in (task.train, task.test))
        assert not train & test
        assert len({row.answer for row in task.test}) == 2
    assert [task.name for task in make_stream(1)] == list(TASKS)
    assert make_stream(0).tasks[0].train != make_stream(1).tasks[0].train


def test_there_is_prose_to_replay_and_other_prose_to_measure() -> None:
    found = paragraphs()
    assert len(found) == len(set(found)) == 15
    assert min(map(len, found)) > 400


@pytest.mark.parametrize("name", ARMS)
def test_one_seed(name: str) -> None:
    training = {"epochs": 1, "batch_size": 6, "learning_rate": 3e-3}
    found = measured(ARMS[name], 0, training, model="tiny", device="cpu")
    assert found["rises"][0] == 0.0
    assert found["rise"] == found["rises"][2] != 0.0
    assert 0 < found["flipped"] < 1
