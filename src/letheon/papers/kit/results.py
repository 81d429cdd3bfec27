"""The results of a comparison: one dictionary of values per arm and seed, with columns, pairs, means and courses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from letheon.core.statistics import Estimate, estimate_mean
from letheon.papers.kit.findings import Findings, Pairs, Threshold, means

Row = Mapping[str, Any]
Arm = TypeVar("Arm")


@dataclass(frozen=True)
class Results:
    """Values by arm, one row per seed; every arm has the same seeds in the same order."""

    arms: Mapping[str, Sequence[Row]]

    def column(self, arm: str, metric: str) -> list[Any]:
        """One value per seed."""
        return [row[metric] for row in self.arms[arm]]

    def pairs(self, metric: str, ours: str, baseline: str) -> Pairs:
        """Values of two arms, paired by seed."""
        return Pairs(self.column(baseline, metric), self.column(ours, metric))

    def means(self, metrics: Iterable[str] | None = None) -> dict[str, dict[str, float]]:
        """Arm -> means over seeds, of the named metrics or of every number."""
        return {arm: means(rows, metrics) for arm, rows in self.arms.items()}

    def course(self, metric: str, start: int = 0) -> dict[str, list[tuple[float, float]]]:
        """Arm -> (number, mean over seeds) of a metric that is a list, numbered from `start`."""
        columns = {arm: zip(*self.column(arm, metric), strict=True) for arm in self.arms}
        return {
            arm: [(number, sum(values) / len(values)) for number, values in enumerate(course, start)]
            for arm, course in columns.items()
        }

    def estimates(self, metric: str) -> dict[str, Estimate]:
        """Arm -> mean over seeds with its interval."""
        return {arm: estimate_mean(self.column(arm, metric)) for arm in self.arms}

    def dots(self, metric: str) -> dict[str, dict[str, Estimate]]:
        """The estimates as groups of one, for `report.figures.dots`."""
        return {arm: {arm: estimate} for arm, estimate in self.estimates(metric).items()}

    def rows(self) -> list[dict[str, Any]]:
        """All rows in one list, each with its arm."""
        return [{"arm": arm, **row} for arm, rows in self.arms.items() for row in rows]

    def decide(self, found: Findings, part: str, metric: str, ours: str, baseline: str, **threshold: Any) -> None:
        """Decide a part of the claim by ours minus the baseline; `threshold` is `above` or `below`."""
        found.decide(part, self.pairs(metric, ours, baseline), value=False, **threshold)

    def report(self, found: Findings, name: str, metric: str, ours: str, baseline: str, **threshold: Any) -> None:
        """Report ours minus the baseline with a verdict beside the claim; `threshold` is `above` or `below`."""
        found.report(name, self.pairs(metric, ours, baseline), value=False, **threshold)

    def judge(self, found: Findings, arm: str, bounds: Mapping[str, Threshold], beside: Iterable[str]) -> None:
        """Decide the columns of an arm that have a threshold, and report others, None where a row has no value."""
        for part, threshold in bounds.items():
            found.decide(part, self.column(arm, part), **threshold)
        for name in beside:
            found.report(name, [row.get(name) for row in self.arms[arm]])

    def record(self, found: Findings, metrics: Iterable[str] | None = None) -> None:
        """Add the means of every arm and all rows to the findings."""
        found.measured |= self.means(None if metrics is None else tuple(metrics))
        found.rows += self.rows()


def run_arms(measure: Callable[[Arm, int], Row], arms: Mapping[str, Arm], seeds: Sequence[int]) -> Results:
    """Measure every arm under every seed; `measure` gets the arm's settings and the seed."""
    return Results({name: [measure(arm, seed) for seed in seeds] for name, arm in arms.items()})
