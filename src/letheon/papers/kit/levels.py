"""Comparison at equal forgetting: each run is read where it first reaches a level that all compared runs reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from letheon.papers.kit.arms import Trajectory
from letheon.papers.kit.findings import Pairs, mean
from letheon.report.plots import lines

Runs = Mapping[int, Mapping[str, Trajectory]]  # seed -> arm -> run
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
GRID = tuple(level / 20 for level in range(19, 0, -1))  # levels of a figure


def first_crossing(levels: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """`values` where `levels` first falls to `level`, linear between two points; None if it never does."""
    for i, now in enumerate(levels):
        if now > level:
            continue
        if i == 0 or levels[i - 1] == now:
            return values[i]
        share = (levels[i - 1] - level) / (levels[i - 1] - now)
        return values[i - 1] + share * (values[i] - values[i - 1])
    return None


def kept_or_depth(run: Trajectory, by: str, keep: str, level: float) -> float:
    """`keep` where `by` first falls to a level: what an arm's setting is chosen by.

    A run that does not get there scores minus its lowest value of `by`: less than any that does.
    """
    kept = first_crossing(run.column(by), run.column(keep), level)
    return -min(run.column(by)) if kept is None else kept


def from_deep(deep: float) -> tuple[float, ...]:
    """The level at which runs are to be compared, and the shallower ones to fall back on."""
    return (deep, *(level for level in LEVELS if level > deep))


def common_level(paths: Iterable[Sequence[float]], levels: Sequence[float] = LEVELS) -> float | None:
    """The lowest of the levels (given in rising order) that every path reaches; None if some path reaches none."""
    highest = max(min(path) for path in paths)
    return next((level for level in levels if highest <= level), None)


@dataclass(frozen=True)
class EqualForgetting:
    """Runs that are read at one level of forgetting.

    Attributes:
        runs: seed -> arm -> run.
        by: the measurement that falls while a model forgets.
        keep: the measurement that is compared at the level.
        level: the level of `by`; None if the compared runs reach no common one, and then nothing has a value.
    """

    runs: Runs
    by: str
    keep: str
    level: float | None

    def at(self, run: Trajectory, keep: str | None = None, level: float | None = None) -> float | None:
        """A measurement of one run at the common level, or at another."""
        level = self.level if level is None else level
        return None if level is None else first_crossing(run.column(self.by), run.column(keep or self.keep), level)

    def values(self, arm: str, keep: str | None = None) -> list[float | None]:
        """A measurement of an arm at the level, one value per seed."""
        return [self.at(arms[arm], keep) for arms in self.runs.values()]

    def pairs(self, baseline: str, ours: str, keep: str | None = None) -> Pairs:
        """The values of two arms, paired by seed."""
        return Pairs(self.values(baseline, keep), self.values(ours, keep))

    def means(self, keep: str | None = None, arms: Iterable[str] | None = None) -> dict[str, float | None]:
        """Mean over seeds of each arm's values."""
        return {arm: mean(self.values(arm, keep)) for arm in arms or next(iter(self.runs.values()))}

    def curve(self, arm: str, keep: str | None = None, grid: Iterable[float] = GRID) -> list[tuple[float, float]]:
        """Mean over seeds of an arm's measurement, at every level of the grid that the arm reaches in all seeds."""
        points = [(level, [self.at(arms[arm], keep, level) for arms in self.runs.values()]) for level in grid]
        reached = [(level, [value for value in values if value is not None]) for level, values in points]
        return [(level, sum(values) / len(values)) for level, values in reached if len(values) == len(self.runs)]

    def figure(
        self,
        across: str,
        up: str,
        words: str,
        *,
        keep: str | None = None,
        arms: Iterable[str] | None = None,
        grid: Iterable[float] = GRID,
    ) -> str:
        """An `<svg>` element: the kept measurement over the level of forgetting, one line per arm.

        Args:
            across, up: labels of the axes.
            words: a description for readers who cannot see the figure.
        """
        grid = tuple(grid)
        shown = arms or next(iter(self.runs.values()))
        return lines({arm: self.curve(arm, keep, grid) for arm in shown}, across, up, words, falling=True)


def at_equal_forgetting(
    runs: Runs,
    compare: Iterable[str],
    keep: str,
    *,
    by: str = "forget_probability",
    levels: Sequence[float] = LEVELS,
) -> EqualForgetting:
    """Find the lowest level that the compared arms reach under every seed, and read the runs there.

    Args:
        runs: seed -> arm -> run; arms that are not compared are read too, where they reach the level.
        compare: names of the arms that must reach the level.
        keep: the measurement to compare.
        by: the measurement that falls while a model forgets.
        levels: the levels to choose from, in rising order.
    """
    compared = tuple(compare)
    level = common_level((arms[arm].column(by) for arms in runs.values() for arm in compared), levels)
    return EqualForgetting(runs, by, keep, level)
