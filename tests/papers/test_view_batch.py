"""View batches: what is judged, and a short run of every kind of arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.view_batch import ARMS, FEWER, FOUR, ONE, RESHUFFLED, figures, judge, measured


def rows(forgetting: float, accuracy: float = 0.9) -> list[dict[str, Any]]:
    return [{"forgetting": forgetting + i / 1000, "average accuracy": accuracy, "steps": 10} for i in range(10)]


def judged(runs: Mapping[str, Any]) -> Findings:
    found = Findings()
    judge(Results(runs), found)
    return found


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_judged_part_by_part() -> None:
    runs = {name: rows(0.2, 0.8) for name in ARMS} | {FOUR: rows(0.1)}
    found = judged(runs)
    assert {*found.parts.values(), *found.beside.values()} == {"holds"}
    assert judged(runs | {"8 views": rows(0.05)}).parts["forgetting: 8 views above 4"] == "fails"
    assert set(figures(Results(runs))) == {"forgetting", "average accuracy"}


@pytest.mark.parametrize("name", [ONE, FOUR, RESHUFFLED, FEWER, "plain replay"])
def test_one_seed(name: str) -> None:
    options, _ = ARMS[name]
    found = measured(options, 8, 0)
    if name == RESHUFFLED:
        assert found["interval"] < 4
    else:
        assert found["interval"] == pytest.approx((options or {}).get("views", 1))
    assert found["steps"] == measured(None, 8, 1)["steps"], "no arm takes more steps an epoch"
