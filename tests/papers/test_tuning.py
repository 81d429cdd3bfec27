"""Settings are chosen by their mean score over the tuning seeds, and the search is recorded."""

from __future__ import annotations

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.tuning import choose

SCORES = {("a", 1, 100): 0.9, ("a", 1, 101): 0.1, ("a", 2, 100): 0.6, ("a", 2, 101): 0.6}


def test_the_largest_mean_is_chosen_and_every_score_is_recorded() -> None:
    found = Findings()
    assert choose(found, {"a": (1, 2)}, lambda *case: SCORES[case]) == {"a": 2}
    assert found.measured == {
        "chosen on seeds 100, 101": {"a": "2"},
        "scores of the search on seeds 100, 101": {"a": {"1": 0.5, "2": 0.6}},
    }


def test_a_setting_that_lacks_a_score_under_one_seed_is_not_chosen() -> None:
    def score(arm: str, setting: int, seed: int) -> float | None:
        return None if (setting, seed) == (1, 101) else -float(setting)

    assert choose(Findings(), {"a": (1, 5)}, score) == {"a": 5}
    assert choose(Findings(), {"a": (7, 8)}, lambda *_: None) == {"a": 7}
