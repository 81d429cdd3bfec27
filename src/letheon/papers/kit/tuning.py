"""Settings of arms, chosen on seeds that are not judged by what is judged; the search becomes part of the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from letheon.papers.kit.findings import Findings, mean

TUNING_SEEDS = (100, 101)
Setting = TypeVar("Setting")


def choose(
    found: Findings,
    candidates: Mapping[str, Sequence[Setting]],
    score: Callable[[str, Setting, int], float | None],
    seeds: Sequence[int] = TUNING_SEEDS,
) -> dict[str, Setting]:
    """Choose for each arm the setting with the largest mean score over the tuning seeds, and record the search.

    A setting that has no score under some seed is chosen only if every setting lacks one; it is then the first.

    Args:
        found: receives every mean score and the choices, under a name that says the seeds.
        candidates: arm -> its settings, which must print differently.
        score: the judged measure of an arm with a setting under a seed, larger is better; None where it has no value.
    """
    chosen: dict[str, Setting] = {}
    tried: dict[str, dict[str, float | None]] = {}
    for arm, settings in candidates.items():
        columns = [[score(arm, setting, seed) for seed in seeds] for setting in settings]
        scores = [None if None in column else mean(column) for column in columns]
        best = max(range(len(settings)), key=lambda i: -float("inf") if scores[i] is None else float(scores[i] or 0.0))
        chosen[arm] = settings[best]
        tried[arm] = {str(setting): value for setting, value in zip(settings, scores, strict=True)}
    words = ", ".join(map(str, seeds))
    found.measured[f"chosen on seeds {words}"] = {arm: str(setting) for arm, setting in chosen.items()}
    found.measured[f"scores of the search on seeds {words}"] = tried
    return chosen
