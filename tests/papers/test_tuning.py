"""Settings are chosen by their mean score over the tuning seeds, and the search is recorded."""

from __future__ import annotations

import math

import pytest

from letheon.core.errors import TrainingError
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.tuning import beyond, choose, next_value

SCORES = {1: (0.9, 0.1), 2: (0.6, 0.6), 4: (0.3, 0.3)}


def test_the_largest_mean_is_chosen_and_every_score_is_recorded() -> None:
    found = Findings()
    assert choose(found, {"a": (1, 2)}, lambda _, setting, seed: SCORES[setting][seed - 100]) == {"a": 2}
    assert found.measured == {
        "chosen on seeds 100, 101": {"a": "2"},
        "scores of the search on seeds 100, 101": {"a": {"1": 0.5, "2": 0.6, "4": 0.3}},
        "at an end of the grid on seeds 100, 101": [],
    }


def test_a_setting_that_lacks_a_score_under_one_seed_is_not_chosen() -> None:
    def score(arm: str, setting: int, seed: int) -> float | None:
        return None if (setting, seed) == (1, 101) else -abs(setting - 5.0)

    assert choose(Findings(), {"a": (1, 5)}, score) == {"a": 5}
    assert choose(Findings(), {"a": (7, 8)}, lambda *_: None) == {"a": 7}


def test_a_run_that_diverges_has_no_score() -> None:
    def score(arm: str, rate: float, seed: int) -> float:
        if rate > 0.5:
            raise TrainingError("the loss is not finite", "")
        return rate

    found = Findings()
    assert choose(found, {"a": (0.1, 0.3)}, score) == {"a": 0.3}
    assert found.measured["scores of the search on seeds 100, 101"]["a"]["0.9"] is None


@pytest.mark.parametrize(
    ("peak", "best", "tried"),
    [
        (3e-3, 3e-3, [1e-3, 3e-3, 9e-3]),
        (1e-4, 1.1e-4, [1e-3, 3e-3, 3.3e-4, 1.1e-4, 3.7e-5]),
        (1.0, 0.081, [1e-3, 3e-3, 9e-3, 0.027, 0.081]),
    ],
)
def test_the_search_goes_on_beyond_an_end_three_times(peak: float, best: float, tried: list[float]) -> None:
    found = Findings()
    chosen = choose(found, {"a": (1e-3, 3e-3)}, lambda _, rate, __: -abs(math.log(rate / peak)), by="loss")
    assert chosen == {"a": best}
    assert list(found.measured["scores of the search on seeds 100, 101, by loss"]["a"]) == list(map(str, tried))
    assert found.measured["at an end of the grid on seeds 100, 101, by loss"] == (["a"] if peak == 1.0 else [])


def test_every_number_of_a_tuple_is_a_place_on_a_grid_of_its_own() -> None:
    grid = [("dpo", 24, 0.1), ("dpo", 48, 0.1), ("dpo", 24, 0.2), ("npo", 24, 0.8)]
    assert set(beyond(("dpo", 24, 0.1), grid)) == {("dpo", 12, 0.1), ("dpo", 24, 0.05)}
    assert not list(beyond(("npo", 24, 0.8), grid)), "a grid of one value has no spacing"


@pytest.mark.parametrize(("end", "inner", "value"), [(6.0, 4.5, 12.0), (1e-3, 1e-4, 3e-3), (1, 2, 1), (96, 48, 192)])
def test_a_step_beyond_an_end_is_the_grids_own_between_two_and_three(end: float, inner: float, value: float) -> None:
    assert next_value(end, inner) == value
