"""Which learning rate is tried next, and which run goes on past a rung: only one among the better half seen there.

Source:  Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), arXiv 1810.05934, in the form that
         stops runs instead of promoting them, since runs here come one after another.
Differs: a tie goes on; rates are not drawn at random but climb from the method's own, half a power of ten a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


def rungs(steps: int) -> list[int]:
    """Steps at which a run of `steps` is looked at, the last one included: steps/4, steps/2, steps."""
    return sorted({max(1, steps // 2**level) for level in range(3)})


def next_step(scores: Mapping[int, float], farthest: int = 6) -> int | None:
    """The step to try next: 0, then 1, then on from the best to the first of its neighbours that was not tried.

    Args:
        scores: of the steps that were tried; of equal ones the higher step counts as the better.
        farthest: no step beyond it, in both directions.

    Returns:
        None when the best one's neighbours were tried.

    >>> next_step({0: 0.1, 1: 0.5, 2: 0.9}), next_step({0: 0.9, 1: 0.5}), next_step({-1: 0.2, 0: 0.9, 1: 0.5})
    (3, -1, None)
    """
    if not scores:
        return 0
    best = max(scores, key=lambda step: (scores[step], step))
    beside = [step for step in (best + 1, best - 1) if step not in scores and abs(step) <= farthest]
    return beside[0] if beside else None


@dataclass
class Halving:
    """Scores at each rung of the runs of one method; higher is better."""

    seen: dict[int, list[float]] = field(default_factory=dict)

    def goes_on(self, rung: int, score: float) -> bool:
        """Note a score; whether it is among the better half (at least one) seen at this rung."""
        scores = self.seen.setdefault(rung, [])
        scores.append(score)
        return score >= sorted(scores, reverse=True)[max(1, len(scores) // 2) - 1]


def score(forgotten: float, kept: float, language: float) -> float:
    """Harmonic mean of three shares in [0, 1]: nothing forgotten, or all lost, is 0."""
    parts = [min(max(part, 0.0), 1.0) for part in (forgotten, kept, language)]
    return 3 / sum(1 / part for part in parts) if all(parts) else 0.0


def pareto(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """Names of the points that no other beats in both coordinates (less of the first, more of the second)."""

    def beaten(name: str) -> bool:
        left, up = points[name]
        return any(
            other[0] <= left and other[1] >= up and other != (left, up) for key, other in points.items() if key != name
        )

    return {name for name in points if not beaten(name)}
