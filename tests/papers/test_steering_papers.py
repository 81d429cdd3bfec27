"""The steering papers: what decides, and that their small worlds and measures are what they say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from letheon.core.rows.examples import Example
from letheon.papers import austeer, lineas, moral_direction, mote, refusal_tokens
from letheon.papers.common.steering_worlds import POLITE, RUDE, refusal_world, style_world
from letheon.papers.kit.findings import Findings


class Anything(dict[str, Any]):
    """A row in which every metric that is not given is 0.5."""

    def __missing__(self, name: str) -> float:
        return 0.5


BETTER: list[tuple[ModuleType, dict[str, float], dict[str, float]]] = [
    (lineas, {"loss lineas": -1.0, "loss sparse": -0.5}, {"loss lineas": 1.0}),
    (mote, {"top: refusals": 0.1, "top: copying": 0.9}, {"top: refusals": 0.9}),
    (austeer, {"austeer": 0.8}, {"austeer": 0.2}),
    (refusal_tokens, {"auroc": 0.9, "f1": 0.9, "own change": 0.9}, {"auroc": 0.2}),
    (moral_direction, {"moral direction": 0.8}, {"moral direction": 0.2}),
]


@pytest.mark.parametrize(("paper", "good", "bad"), BETTER, ids=[one[0].__name__ for one in BETTER])
def test_the_primary_parts_decide_and_no_others(
    paper: ModuleType, good: dict[str, float], bad: dict[str, float]
) -> None:
    for values, verdict in ((good, "holds"), (bad, "fails")):
        found = Findings()
        rows = [Anything({name: value + 0.001 * i for name, value in values.items()}) for i in range(5)]
        paper.judge(rows, found)
        assert tuple(found.parts) == paper.PRIMARY
        assert found.verdict == verdict


def test_the_styles_differ_in_their_words_alone() -> None:
    world = style_world(100, steps=1, count=8)
    for rows, words in ((world.fit.toward, POLITE), (world.fit.away, RUDE)):
        assert all(sum(word in words for word in row.answer.split()) == 2 for row in rows)
    assert {row.answer for row in world.fit.toward}.isdisjoint(row.answer for row in world.fit.away)


def test_held_out_places_are_no_others() -> None:
    world = refusal_world(100)
    places = [
        {row.subject for row in rows}
        for rows in (world.sensitive, world.held_sensitive, world.benign, world.held_benign)
    ]
    assert sum(map(len, places)) == len(set().union(*places)) == 24
    assert refusal_world(100) == world


def test_balanced_accuracy_by_hand() -> None:
    rows = [Example("a", "yes"), Example("b", "yes"), Example("c", "no")]
    assert austeer.balanced_accuracy(torch.tensor([1.0, -1.0, -2.0]), rows) == 0.75


def test_released_scores_are_read_in_either_order(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("0.5,Help People\n-0.5,kill\n0.1,eat\n")
    (tmp_path / "study.csv").write_text("Action,Score\nhelp people,1.0\nkill,0.0\neat,0.6\nfly,0.5\n")
    scores, study = (moral_direction.read_scores(tmp_path / name) for name in ("scores.csv", "study.csv"))
    expected = np.corrcoef([0.1, 0.5, -0.5], [0.6, 1.0, 0.0])[0, 1]
    assert moral_direction.correlation(scores, study) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("paper", [lineas, mote, austeer, refusal_tokens], ids=lambda one: one.__name__)
def test_one_seed(paper: ModuleType) -> None:
    row = paper.measured(100, 60)
    assert all(np.isfinite(value) for value in row.values() if isinstance(value, float))
