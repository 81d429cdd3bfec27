"""UER's claim: what is judged, and one run of either side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from letheon.papers import uer
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.uer import ARMS, GAPS, PRIMARY, RATES, TUNING_SEEDS, Arm, figures, judge, measured, tuned


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
    replay, ours = (measured((ARMS[name], 0.1), 0) for name in ("replay", "uer"))
    assert ours["old tasks"] > replay["old tasks"]
    assert ours["logit gap"] < replay["logit gap"]
    assert ours["old tasks, by cosines"] < ours["old tasks"] - 0.2, "predicting by cosines after UER collapses"
    assert len(ours["logit gaps"]) == 4
    assert ours["average"] == pytest.approx((4 * ours["old tasks"] + ours["newest task"]) / 5)


def test_each_arm_has_the_rate_that_is_best_on_the_tuning_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks, seen = {ARMS["replay"]: 0.05, ARMS["reversed"]: 0.008}, set()

    def fake(arm: Arm, seed: int) -> dict[str, float]:
        text, rate = arm
        seen.add(seed)
        return {"average": -abs(math.log(rate / peaks.get(text, 0.1)))}

    monkeypatch.setattr(uer, "measured", fake)
    found = Findings()
    chosen = tuned(found)
    assert chosen["replay"] == (ARMS["replay"], 0.05)
    assert chosen["reversed"] == (ARMS["reversed"], 0.008), "the search goes on beyond the end"
    assert {rate for name, (_, rate) in chosen.items() if name not in ("replay", "reversed")} == {0.1}
    assert seen == set(TUNING_SEEDS)
    (search,) = (value for name, value in found.measured.items() if name.startswith("scores of the search"))
    assert set(search) == set(ARMS)
    assert list(search["replay"]) == list(map(str, RATES))
