"""View batches: what is judged, and a short run of every kind of arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.view_batch import ARMS, EPOCHS, FOUR, MANY, ONE, PRIMARY, RESHUFFLED, figures, judge, measured


def rows(views: int, forgetting: float, accuracy: float = 0.9, peak: float = 0.95, steps: int = 9) -> list[Any]:
    metrics = {"average accuracy": accuracy, "peak accuracy": peak, "interval": views, "steps": steps}
    return [{"forgetting": forgetting + i / 1000, **metrics} for i in range(10)]


def judged(runs: Mapping[str, Any]) -> Findings:
    found = Findings(primary=PRIMARY)
    judge(Results(runs), found)
    return found


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_judged_part_by_part() -> None:
    runs = {name: rows(options["views"], 0.2, 0.8) for name, options in ARMS.items()} | {FOUR: rows(4, 0.1)}
    found = judged(runs)
    assert found.verdict == "holds"
    assert set(found.parts) == set(PRIMARY)
    assert set(found.beside.values()) == {"holds"}
    assert set(figures(Results(runs))) == {"forgetting", "average accuracy"}
    lazy = judged(runs | {FOUR: rows(4, 0.1, peak=0.8)})
    assert lazy.parts[PRIMARY[-1]] == "fails", "who learns less has less to forget"
    assert judged(runs | {MANY: rows(16, 0.05)}).parts[f"forgetting: {FOUR} below {MANY}"] == "fails"
    assert judged(runs | {ONE: rows(1, 0.2, 0.8, steps=12)}).verdict == "inconclusive", "arms take equal steps"
    of_seeds = {name: [row | {"steps": 9 + i} for i, row in enumerate(arm)] for name, arm in runs.items()}
    assert judged(of_seeds).checks["equal steps"], "a seed's split decides how many"


def test_every_arm_ends_with_a_whole_round_of_views_so_that_intervals_are_exact() -> None:
    assert not any(EPOCHS % options["views"] for options in ARMS.values())


@pytest.mark.parametrize("name", [ONE, FOUR, RESHUFFLED])
def test_one_short_seed(name: str) -> None:
    found = measured(ARMS[name], 0.1, 100, epochs=8)
    views = ARMS[name]["views"]
    if name == RESHUFFLED:
        assert found["interval"] < views
    else:
        assert found["interval"] == pytest.approx(views, abs=1e-9)
        assert found["interval of old rows"] == pytest.approx(views, abs=0.3)
    assert found["steps"] == 248, "every arm takes equal steps"
