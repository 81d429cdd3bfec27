"""Removal curves: accuracy without the most memorised rows, without as many random ones, without the least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from letheon.measure.memorization.learners import LabelledRows, Learner


@dataclass(frozen=True)
class Removal:
    """Accuracies after the removal of some rows, one per repetition.

    Attributes:
        removed: number of rows.
        order: `memorised`, `random` or `least`.
        accuracy: on all test rows.
        group: accuracy on the test rows that were asked for (rare classes), or None.
    """

    removed: int
    order: str
    accuracy: tuple[float, ...]
    group: tuple[float, ...] | None


def removal_curve(
    rows: LabelledRows,
    scores: Float[np.ndarray, " train"],
    learner: Learner,
    removed: Sequence[int],
    *,
    repeats: int = 10,
    group: Bool[np.ndarray, " test"] | None = None,
    seed: int = 0,
) -> list[Removal]:
    """Train without rows, in three orders, an equal number each time.

    Args:
        scores: memorisation of each training row.
        removed: numbers of rows to remove.
        repeats: models per point; the random order removes other rows in each.
        group: test rows whose accuracy is also given.
    """
    n, rng = len(scores), np.random.default_rng(seed)
    ranked = np.argsort(-np.nan_to_num(scores), kind="stable")
    curve = []
    for count in removed:
        gone = {
            "memorised": [ranked[:count]] * repeats,
            "random": [rng.choice(n, count, replace=False) for _ in range(repeats)],
            "least": [ranked[n - count :]] * repeats,
        }
        for order, taken in gone.items():
            mask = np.ones((repeats, n), dtype=bool)
            for row, places in zip(mask, taken, strict=True):
                row[places] = False
            right = learner.run(rows, mask, seed).test_correct
            own = None if group is None else tuple(right[:, group].mean(1).tolist())
            curve.append(Removal(count, order, tuple(right.mean(1).tolist()), own))
    return curve
