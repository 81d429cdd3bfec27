"""UER's claim: what is judged, and one run of either side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.uer import ARMS, GAPS, PRIMARY, figures, judge, measured


def rows(average: float, old: float, newest: float, gap: float) -> list[dict[str, object]]:
    values = {"average": average, "old tasks": old, "newest task": newest, **dict.fromkeys(GAPS, gap)}
    return [
        {name: value * (1 + i / 100) for name, value in values.items()} | {"logit gaps": [gap, gap]} for i in range(5)
    ]


def judged(runs: Mapping[str, Any]) -> Findings:
    found = Findings(primary=PRIMARY)
    judge(Results(runs), found)
    return found


def test_the_claim_is_about_accuracies_and_the_logits_bias_and_the_rest_stands_beside_it() -> None:
    runs = {name: rows(0.6, 0.5, 0.8, 3.0) for name in ARMS} | {"uer": rows(0.7, 0.8, 0.4, 2.0)}
    found = judged(runs)
    assert found.parts == dict.fromkeys(PRIMARY, "holds")
    assert found.beside["newest task: uer above replay"] == "fails"
    worse = judged(runs | {"uer": rows(0.5, 0.8, 0.4, 2.0)})
    assert worse.parts["average: uer minus replay"] == "fails"
    assert all(svg.startswith("<svg") for svg in figures(Results(runs)).values())


def test_one_seed() -> None:
    replay, uer = (measured((ARMS[name], 0.1), 0) for name in ("replay", "uer"))
    assert uer["old tasks"] > replay["old tasks"]
    assert uer["logit gap"] < replay["logit gap"]
    assert uer["old tasks, by cosines"] < uer["old tasks"] - 0.2, "predicting by cosines after UER collapses"
    assert len(uer["logit gaps"]) == 4
    assert uer["average"] == pytest.approx((4 * uer["old tasks"] + uer["newest task"]) / 5)
