"""Agreement of ratings: rank and product-moment correlation with intervals, absolute error, group means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from letheon.core.statistics import Estimate, rank_correlation
from letheon.measure.benchmark import Score
from letheon.measure.common_scores import mean_score

Values = Sequence[float | None]
CONSTANT = "one of the two sides is constant, or there are fewer than three items"


def pearson(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Estimate the product-moment correlation with Fisher's z interval; None for a constant side or under 3 pairs."""
    n = len(first)
    if n < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Estimate(None, None, None, n)
    r = float(stats.pearsonr(first, second).statistic)
    if n < 4 or abs(r) > 1 - 1e-12:
        return Estimate(r, None, None, n)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) / math.sqrt(n - 3)
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), n)


def both(first: Values, second: Values) -> tuple[list[float], list[float]]:
    """Return the pairs in which neither side is missing."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def correlation_score(name: str, first: Values, second: Values, *, ranks: bool = True) -> Score:
    """Return a correlation over the items that both sides rate, as a score."""
    estimate = (rank_correlation if ranks else pearson)(*both(first, second))
    return Score(name, estimate, "higher", why=CONSTANT if estimate.value is None else "")


def error_score(name: str, words: Sequence[str], model: Values, human: Values, seed: int = 0) -> Score:
    """Return the mean absolute error in points of the scale, with one error per word."""
    triples = zip(words, model, human, strict=True)
    errors = {word: abs(a - b) for word, a, b in triples if a is not None and b is not None}
    return mean_score(name, errors, "lower", seed=seed, why="no word has both ratings")


def worst(words: Sequence[str], model: Values, human: Values, most: int = 10) -> list[str]:
    """Return the words with the largest errors, worst first."""
    pairs = zip(words, model, human, strict=True)
    errors = {word: abs(a - b) for word, a, b in pairs if a is not None and b is not None}
    return sorted(errors, key=lambda word: -errors[word])[:most]


@dataclass(frozen=True)
class Binned:
    """Mean model rating per bin of the human ratings. Binning removes the raters' noise, so it raises the correlation.

    Attributes:
        human: mean human rating of each bin that has words.
        model: mean model rating of each.
        counts: words of each.
    """

    human: tuple[float, ...]
    model: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def correlation(self) -> float | None:
        """Rank correlation of the bins' means; quote it beside the one over words only."""
        return rank_correlation(self.human, self.model).value


def binned(model: Values, human: Values, low: float, high: float, bins: int = 20) -> Binned:
    """Group words into bins of equal width over the scale and average both ratings."""
    ours, theirs = (np.array(values) for values in both(model, human))
    place = np.minimum(((theirs - low) / (high - low) * bins).astype(int), bins - 1)
    used = [number for number in range(bins) if (place == number).any()]
    return Binned(
        tuple(float(theirs[place == number].mean()) for number in used),
        tuple(float(ours[place == number].mean()) for number in used),
        tuple(int((place == number).sum()) for number in used),
    )


def mean_of(name: str, parts: Mapping[str, Score], seed: int = 0) -> Score:
    """Return the mean of several correlations as a score, with the interval over them; missing ones are left out."""
    known = {part: score.estimate.value for part, score in parts.items() if score.estimate.value is not None}
    return mean_score(name, known, "higher", seed=seed, why="no correlation could be computed")
