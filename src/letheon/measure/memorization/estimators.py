"""Memorisation and influence from models that were trained on random subsets.

Paper:   Feldman, Does Learning Require Memorization? A Short Tale about a Long Tail, arXiv 1906.05271; Feldman & Zhang,
         What Neural Networks Memorize and Why, arXiv 2008.03703 (the estimators).
Source:  google-research/heldout-influence-estimation; its arrays' names are read.
Differs: standard errors are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from letheon.core.atomic import atomic_write_bytes
from letheon.core.errors import InputError

MEMORISED, INFLUENTIAL = 0.25, 0.15  # thresholds of the follow-up


@dataclass(frozen=True)
class SubsetRuns:
    """Models trained on random subsets of the same rows.

    Attributes:
        mask: whether a run's subset holds a training row.
        train_correct: whether a run's model predicts a training row rightly, in its subset or not.
        test_correct: likewise for test rows.
    """

    mask: Bool[np.ndarray, "runs train"]
    train_correct: Bool[np.ndarray, "runs train"]
    test_correct: Bool[np.ndarray, "runs test"]

    def __add__(self, more: SubsetRuns) -> SubsetRuns:
        """Append further runs on the same rows."""
        pairs = zip(vars(self).values(), vars(more).values(), strict=True)
        return SubsetRuns(*(np.concatenate(pair) for pair in pairs))

    def save(self, path: Path) -> None:
        """Write the arrays to an .npz file, which holds no pickled objects."""
        import io

        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        atomic_write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> SubsetRuns:
        """Read what `save` wrote.

        Raises:
            InputError: the file is no such archive.
        """
        arrays = read_npz(path, ("mask", "train_correct", "test_correct"))
        if any(array.ndim != 2 or len(array) != len(arrays["mask"]) for array in arrays.values()):
            raise InputError(f"{path}: the arrays have unequal numbers of runs", "give a file of subset runs")
        return cls(**{name: array.astype(bool) for name, array in arrays.items()})


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read named arrays of an .npz file; pickled objects are refused.

    Raises:
        InputError: the file is missing, is no such archive, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise InputError(f"{path} has no array {missing[0]!r}", f"it has: {', '.join(archive.files)}")
            return {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} could not be read: {error}", "give an .npz file without pickled objects") from None


def draw_subsets(rows: int, ratio: float, runs: int, seed: int) -> Bool[np.ndarray, "runs rows"]:
    """Draw subsets of round(ratio * rows) rows without replacement.

    Raises:
        InputError: the ratio leaves no row in or none out.
    """
    size = round(ratio * rows)
    if not 0 < size < rows:
        raise InputError(f"subsets of {size} of {rows} rows", "give a ratio that leaves rows in and out, such as 0.7")
    rng = np.random.default_rng(seed)
    mask = np.zeros((runs, rows), dtype=bool)
    np.put_along_axis(mask, np.argsort(rng.random((runs, rows)), axis=1)[:, :size], True, axis=1)
    return mask


def memorisation(runs: SubsetRuns) -> Float[np.ndarray, " train"]:
    """P[row right | row in the subset] - P[row right | row not in it]; NaN where one of the two never occurs."""
    inside, outside = _shares(runs.mask, runs.train_correct), _shares(~runs.mask, runs.train_correct)
    return inside - outside


def _shares(mask: Bool[np.ndarray, "runs rows"], correct: Bool[np.ndarray, "runs rows"]) -> Float[np.ndarray, " rows"]:
    count = mask.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((mask & correct).sum(0) / np.where(count, count, np.nan))


def memorisation_error(runs: SubsetRuns) -> Float[np.ndarray, " train"]:
    """Standard error of each memorisation score, with half a success and half a failure added to each side."""
    variance = np.zeros(runs.mask.shape[1])
    for mask in (runs.mask, ~runs.mask):
        n = mask.sum(0) + 1
        p = ((mask & runs.train_correct).sum(0) + 0.5) / n
        variance += p * (1 - p) / n
    return np.asarray(np.sqrt(variance))


def influence(runs: SubsetRuns, train: Int[np.ndarray, " some"] | None = None) -> Float[np.ndarray, "test some"]:
    """P[test row right | train row in the subset] - P[test row right | not in it], for every pair.

    Args:
        train: training rows to compute; all by default. The result takes 8 bytes per pair, so choose rows where both
            sets are large.
    """
    inside = (runs.mask if train is None else runs.mask[:, train]).astype(np.float64)
    correct = runs.test_correct.T.astype(np.float64)
    count_in, count_out = inside.sum(0), (1 - inside).sum(0)
    return np.asarray(
        correct @ inside / np.maximum(count_in, 1e-10) - correct @ (1 - inside) / np.maximum(count_out, 1e-10)
    )


@dataclass(frozen=True)
class Pair:
    """A training row that was memorised and a test row of its class that depends on it."""

    train: int
    test: int
    memorisation: float
    influence: float


def high_influence_pairs(
    runs: SubsetRuns,
    train_labels: Int[np.ndarray, " train"],
    test_labels: Int[np.ndarray, " test"],
    *,
    least_memorised: float = MEMORISED,
    least_influence: float = INFLUENTIAL,
) -> list[Pair]:
    """Find pairs of one class above both thresholds, the strongest influence first."""
    scores = memorisation(runs)
    rows = np.flatnonzero(scores >= least_memorised)
    if not len(rows):
        return []
    effect = influence(runs, rows)
    same = test_labels[:, None] == train_labels[rows][None]
    found = [
        Pair(int(rows[column]), int(test), float(scores[rows[column]]), float(effect[test, column]))
        for test, column in zip(*np.nonzero(same & (effect >= least_influence)), strict=True)
    ]
    return sorted(found, key=lambda pair: -pair.influence)
