"""Settings of arms, chosen on seeds that are not judged by what is judged; the search becomes part of the record.

A best value at an end of its grid may not be the best there is: the search goes on beyond that end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from letheon.core.errors import TrainingError
from letheon.papers.kit.findings import Findings, mean

TUNING_SEEDS = (100, 101)
BEYOND = 3  # how often an arm's search goes on beyond an end
FACTORS = (2.0, 3.0)  # least and largest step beyond an end
# Where runs end at a level of forgetting: a judged run's largest number of steps, over that of the search.
LONGER = 3
Setting = TypeVar("Setting")


def choose(
    found: Findings,
    candidates: Mapping[str, Sequence[Setting]],
    score: Callable[[str, Setting, int], float | None],
    seeds: Sequence[int] = TUNING_SEEDS,
    by: str = "",
) -> dict[str, Setting]:
    """Choose for each arm the setting with the largest mean score over the tuning seeds, and record the search.

    While the best setting is at an end of its arm's grid, the next value beyond is tried, up to `BEYOND` times; arms
    whose best setting is at an end even then are recorded. A setting that has no score under some seed is chosen only
    if every setting lacks one; it is then the first, and nothing beyond the grid is tried.

    Args:
        found: receives every mean score, the choices and the arms at an end, under names that say the seeds.
        candidates: arm -> its settings, which must print differently. A number is a place on a grid, and so is every
            number in a tuple, among the settings that agree in the rest of it.
        score: the judged measure of an arm with a setting under a seed, larger is better; None where it has no value.
            A run whose loss is not finite (`TrainingError`) has none.
        by: what the settings are chosen by, where one record holds several searches.
    """
    chosen: dict[str, Setting] = {}
    tried: dict[str, dict[str, float | None]] = {}
    ends: list[str] = []

    def score_of(arm: str, setting: Setting, seed: int) -> float | None:
        try:
            return score(arm, setting, seed)
        except TrainingError:
            return None

    for arm, settings in candidates.items():
        scores: dict[Setting, float | None] = {}

        def extend(more: Sequence[Setting], arm: str = arm, scores: dict[Setting, float | None] = scores) -> Setting:
            for setting in more:
                column = [score_of(arm, setting, seed) for seed in seeds]
                scores[setting] = None if None in column else mean(column)
            return max(scores, key=lambda one: -float("inf") if scores[one] is None else float(scores[one] or 0.0))

        best = extend(settings)
        for _ in range(BEYOND):
            if scores[best] is None or not (more := list(beyond(best, list(scores)))):
                break
            best = extend(more)
        chosen[arm] = best
        tried[arm] = {str(setting): value for setting, value in scores.items()}
        if any(beyond(best, list(scores))):
            ends.append(arm)
    words = f"{', '.join(map(str, seeds))}{by and f', by {by}'}"
    found.measured[f"chosen on seeds {words}"] = {arm: str(setting) for arm, setting in chosen.items()}
    found.measured[f"scores of the search on seeds {words}"] = tried
    found.measured[f"at an end of the grid on seeds {words}"] = ends
    return chosen


def beyond(best: Setting, settings: Sequence[Setting]) -> Iterator[Setting]:
    """Yield the settings just beyond each end of the grid that the best one is at; none where a grid has one value."""
    if not isinstance(best, tuple):
        yield from (one for (one,) in beyond((best,), [(one,) for one in settings]))
        return
    for place, value in enumerate(best):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        rest: Any = (best[:place], best[place + 1 :])
        alike = [one for one in settings if isinstance(one, tuple) and (one[:place], one[place + 1 :]) == rest]
        grid = sorted({one[place] for one in alike})
        if len(grid) > 1 and value in (grid[0], grid[-1]):
            inner = grid[1] if value == grid[0] else grid[-2]
            new: Any = (*best[:place], next_value(value, inner), *best[place + 1 :])
            if new not in settings:
                yield new


def next_value(end: float, inner: float) -> float:
    """The value beyond the end of a grid of positive numbers, by the grid's own factor, held between 2 and 3."""
    least, most = FACTORS
    factor = min(max(max(end, inner) / min(end, inner), least), most)
    value = end * factor if end > inner else end / factor
    return max(1, round(value)) if isinstance(end, int) else float(f"{value:.2g}")
