"""Intervals and tests: bootstrap, Student's t, Wilson's, paired differences, Kolmogorov-Smirnov, rank correlation.

Bootstraps are seeded, so that the same numbers give the same interval. Fewer than two values have no interval, instead
of one of width zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Statistic = Callable[..., Any]
# Up to this many pairs the test tries every sign pattern (at most 4,096); beyond it samples them.
ALL_SIGNS_UP_TO = 12


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: point estimate; None if nothing was measured.
        low, high: ends of the interval; None if there is no interval.
        n: number of items behind the estimate.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def bootstrap_interval(
    values: Sequence[float],
    statistic: Statistic = np.mean,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Compute the 95 % percentile bootstrap interval of a statistic of independent values.

    Args:
        values: one number per item.
        statistic: a function that takes `axis`, as numpy's functions do.
        resamples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        Low and high end; None for fewer than two values, which say nothing about the spread.
    """
    if len(values) < 2:
        return None
    data = np.asarray(values, dtype=float)
    if np.ptp(data) == 0:  # all resamples are equal
        return float(statistic(data, axis=-1)), float(statistic(data, axis=-1))
    return _bootstrapped((data,), statistic, resamples, seed)


def _bootstrapped(
    samples: Sequence[np.ndarray], statistic: Statistic, resamples: int, seed: int, vectorized: bool | None = None
) -> tuple[float, float]:
    batch = max(1, 1_000_000 // sum(map(len, samples)))
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"method": "percentile", "vectorized": vectorized, "batch": batch, "rng": rng}
    found = stats.bootstrap(samples, statistic, n_resamples=resamples, **options)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def share_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Compute Wilson's score interval of a proportion, which has a width even if all items agree.

    It is None if there are no items.
    """
    if n == 0:
        return None
    return _wilson(successes / n, n, confidence)


def _wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if share == 0 else max(centre - half, 0.0)), (1.0 if share == 1 else min(centre + half, 1.0))


def estimate_clustered_share(clusters: Sequence[Sequence[float]]) -> Estimate:
    """Estimate a share from several draws per item, with Wilson's 95 % interval at the effective number of draws.

    Draws of one item resemble each other. The effective number is share (1 - share) / variance of the share over
    items, from the number of items (draws that say the same) up to the number of draws (independent ones); where all
    draws agree it is the number of items. Source: Korn and Graubard, Survey Methodology 24 (1998).

    Args:
        clusters: per item its draws, 0 or 1; items without draws are left out.
    """
    known = [list(cluster) for cluster in clusters if len(cluster)]
    n = sum(map(len, known))
    if not n:
        return Estimate(None, None, None, 0)
    share = sum(map(sum, known)) / n
    items = len(known)
    if n < 2 or items < 2:
        return Estimate(share, None, None, n)
    off = [len(cluster) * (float(np.mean(cluster)) - share) for cluster in known]
    variance = float(np.square(off).sum()) / n**2
    effective = min(max(share * (1 - share) / variance, items), n) if variance > 0 else float(items)
    return Estimate(share, *_wilson(share, effective), n)


def estimate_mean(values: Sequence[float], *, share: bool = False, seed: int = 0) -> Estimate:
    """Estimate a mean with its 95 % interval: Wilson's for a proportion (values 0 and 1), else the bootstrap's."""
    if not values:
        return Estimate(None, None, None, 0)
    mean, n = float(np.mean(values)), len(values)
    interval = share_interval(round(sum(values)), n) if share else bootstrap_interval(values, seed=seed)
    low, high = interval if n > 1 and interval else (None, None)
    return Estimate(mean, low, high, n)


def estimate_auroc(
    higher: Sequence[float], lower: Sequence[float], *, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Estimate the area under the ROC curve: how often a `higher` value exceeds a `lower` one (ties count half).

    The 95 % interval is the percentile bootstrap's, which resamples both kinds. The value is None if one kind is empty;
    there is no interval if one kind has fewer than two values.
    """
    kinds = (np.asarray(higher, dtype=float), np.asarray(lower, dtype=float))
    n = len(higher) + len(lower)
    if not len(higher) or not len(lower):
        return Estimate(None, None, None, n)

    def area(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        size = first.shape[axis]
        ranks = stats.rankdata(np.concatenate([first, second], axis), axis=axis)
        total = np.take(ranks, np.arange(size), axis).sum(axis)
        return np.asarray((total - size * (size + 1) / 2) / (size * second.shape[axis]))

    value = float(area(*kinds, axis=-1))
    if min(map(len, kinds)) < 2:
        return Estimate(value, None, None, n)
    low, high = _bootstrapped(kinds, area, resamples, seed, vectorized=True)
    return Estimate(value, low, high, n)


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference of pairs (second minus first) with its 95 % interval and two-sided p-value."""

    value: float
    low: float | None
    high: float | None
    p: float
    n: int


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """Compare two measurements of the same items by a two-sided sign-flip test.

    The test tries every pattern of signs for up to 12 pairs and samples patterns beyond; the interval is the
    bootstrap's. Pairs are independent and their differences symmetric around zero under the null hypothesis.
    """
    difference = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    n = len(difference)
    exact = n <= ALL_SIGNS_UP_TO
    if exact:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(resamples, n))
    observed = abs(difference.mean())
    as_far = int(np.sum(np.abs(signs @ difference) / n >= observed * (1 - 1e-12)))
    p = as_far / len(signs) if exact else (as_far + 1) / (len(signs) + 1)
    low, high = bootstrap_interval(difference.tolist(), seed=seed) or (None, None)
    return PairedDifference(float(difference.mean()), low, high, float(p), n)


@dataclass(frozen=True)
class MeanTest:
    """A mean, its Student-t interval, and the two-sided p-value of the hypothesis that the mean is a threshold.

    Attributes:
        value: mean of the values; None if there are none.
        low, high: ends of the interval; None for fewer than two values and for equal ones.
        p: two-sided p-value; 1 for fewer than two values.
        n: number of values.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float
    n: int


# Values closer to each other than this share of their size, or than this, differ by the rounding of the arithmetic.
ROUNDING_SHARE, ROUNDING = 1e-6, 1e-12


def mean_test(
    values: Sequence[float], threshold: float = 0.0, confidence: float = 0.95, *, size: float = 0.0
) -> MeanTest:
    """Test by Student's t whether independent values have a threshold as their mean.

    Equal values (up to rounding) say nothing about the spread, so they get no interval and the p-value 1; so do values
    one of which is not finite.

    Args:
        size: largest number from which the values were computed, where they are differences: it sets the rounding.
    """
    data = np.asarray(values, dtype=float)
    n = len(data)
    if n == 0:
        return MeanTest(None, None, None, 1.0, 0)
    mean = float(data.mean())
    if n == 1 or not math.isfinite(mean):
        return MeanTest(mean, None, None, 1.0, 1)
    if np.ptp(data) <= rounding_of(data.tolist(), threshold, size):
        return MeanTest(mean, None, None, 1.0, n)
    error = float(data.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean - threshold) / error, n - 1))
    return MeanTest(mean, mean - half, mean + half, p, n)


def rounding_of(values: Sequence[float], *others: float) -> float:
    """Return the difference up to which numbers of this size count as equal."""
    return max(ROUNDING_SHARE * max(map(abs, (*values, *others))), ROUNDING)


def ks_p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute the p-value of the two-sided two-sample Kolmogorov-Smirnov test."""
    return float(stats.ks_2samp(first, second).pvalue)


def holm(p_values: Sequence[float], level: float) -> list[tuple[float, bool]]:
    """Apply Holm's step-down procedure: return each test's significance level and whether the test is rejected.

    The smallest p-value is compared with level / m, the next with level / (m - 1), ...; after the first test that is
    not rejected, no test is. The chance of any false rejection is at most `level`, whatever the tests' dependence.
    """
    found = [(level, False)] * len(p_values)
    goes_on = True
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        share = level / (len(p_values) - place)
        goes_on = goes_on and p_values[i] <= share * (1 + 1e-9)
        found[i] = (share, goes_on)
    return found


def harmonic_mean(values: Sequence[float]) -> float:
    """Compute the harmonic mean of non-negative numbers; 0 if any of them is 0."""
    return 0.0 if min(values) == 0 else float(stats.hmean(values))


def rank_correlation(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Estimate Spearman's rank correlation with its interval.

    The interval is Fisher's z with the variance of Bonett and Wright (2000), (1 + r^2 / 2) / (n - 3). The value is
    None if one side is constant or there are fewer than three pairs; fewer than four pairs have no interval.
    """
    n = len(first)
    if n < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Estimate(None, None, None, n)
    r = float(stats.spearmanr(first, second).statistic)
    if n < 4 or abs(r) > 1 - 1e-12:
        return Estimate(r, None, None, n)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * math.sqrt((1 + r * r / 2) / (n - 3))
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), n)
