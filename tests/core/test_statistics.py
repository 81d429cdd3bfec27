"""Intervals keep their nominal coverage, tests give the p-values of hand-worked cases, edges give no number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from letheon.core.statistics import (
    bootstrap_interval,
    estimate_auroc,
    estimate_mean,
    harmonic_mean,
    holm,
    ks_p_value,
    paired_difference,
    rank_correlation,
    share_interval,
)


def test_bootstrap_intervals_of_a_mean_cover_it_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    trials, covered = 300, 0
    for trial in range(trials):
        interval = bootstrap_interval(rng.normal(1.0, 2.0, 40), resamples=400, seed=trial)
        assert interval is not None
        covered += interval[0] <= 1.0 <= interval[1]
    # 95 % nominal; 40 values give about 94 %, and 300 trials have a standard error of 1.4 %.
    assert 0.90 <= covered / trials <= 0.985


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_share_intervals_cover_the_share_as_often_as_they_say(share: float) -> None:
    n, rng = 30, np.random.default_rng(1)
    intervals = {k: share_interval(k, n) for k in range(n + 1)}
    drawn = rng.binomial(n, share, 4000)
    covered = sum(intervals[k][0] <= share <= intervals[k][1] for k in drawn)  # type: ignore[index]
    assert covered / 4000 >= 0.92  # Wilson's interval oscillates around its nominal 95 %


def test_rank_correlation_intervals_cover_the_true_one() -> None:
    rho, rng, covered, trials = 0.6, np.random.default_rng(2), 0, 400
    true = 6 / math.pi * math.asin(rho / 2)  # Spearman's of a bivariate normal
    for _ in range(trials):
        first, second = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 40).T
        found = rank_correlation(first, second)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= true <= found.high
    assert 0.91 <= covered / trials <= 0.985


def test_one_value_has_no_interval_instead_of_one_of_width_zero() -> None:
    assert bootstrap_interval([0.3]) is None
    alone = estimate_mean([1.0], share=True)
    assert (alone.value, alone.low, alone.high, alone.n) == (1.0, None, None, 1)
    assert estimate_mean([]).value is None
    assert share_interval(0, 0) is None


def test_none_of_five_is_not_certainty() -> None:
    """The bootstrap of five equal values has no width; the interval of a share has."""
    assert bootstrap_interval([0.0] * 5) == (0.0, 0.0)
    found = estimate_mean([0.0] * 5, share=True)
    assert found.low == 0.0
    assert found.high == pytest.approx(1.959964**2 / (5 + 1.959964**2), abs=1e-6)  # Wilson's upper end at 0 of n
    all_of_them = share_interval(5, 5)
    assert all_of_them is not None
    assert all_of_them[1] == 1.0


def test_intervals_repeat_with_their_seed() -> None:
    values = np.random.default_rng(3).exponential(size=20).tolist()
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)
    low, high = bootstrap_interval(values, np.median) or (1.0, 0.0)
    assert low <= float(np.median(values)) <= high


def test_paired_difference_by_hand() -> None:
    """Five pairs that all rise: of 32 sign patterns only two are as far from zero."""
    found = paired_difference([0, 0, 0, 0, 0], [1, 2, 3, 4, 5])
    assert found.value == 3.0
    assert found.p == pytest.approx(2 / 32)
    assert paired_difference([1, 2], [1, 2]).p == 1.0


def test_sampled_sign_patterns_agree_with_the_t_test() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(size=60)
    second = first + rng.normal(0.25, 1.0, 60)
    expected = stats.ttest_rel(second, first).pvalue
    assert paired_difference(first, second).p == pytest.approx(expected, abs=0.02)  # Monte Carlo error of 10,000


def test_auroc_by_hand_and_as_the_curve_has_it() -> None:
    found = estimate_auroc([3.0, 4.0], [1.0, 3.0])  # of four pairs three lie right and one is a tie
    assert found.value == 3.5 / 4
    assert found.n == 4
    rng = np.random.default_rng(0)
    high, low = rng.normal(0.5, 1, 30).round(1), rng.normal(0, 1, 50).round(1)  # rounded: there are ties
    theirs = roc_auc_score([1] * 30 + [0] * 50, [*high, *low])
    assert estimate_auroc(high.tolist(), low.tolist()).value == pytest.approx(theirs, abs=1e-12)
    assert estimate_auroc([], [1.0]).value is None
    one = estimate_auroc([2.0], [1.0, 0.0])
    assert (one.value, one.low, one.high) == (1, None, None)


def test_auroc_intervals_cover_it_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    true, trials, covered = float(stats.norm.cdf(1 / math.sqrt(2))), 200, 0
    for trial in range(trials):
        found = estimate_auroc(rng.normal(1, 1, 40).tolist(), rng.normal(0, 1, 40).tolist(), resamples=200, seed=trial)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= true <= found.high
    assert covered / trials >= 0.9  # nominally 0.95; 200 trials may fall short of it by chance, and by 0.03 truly


def test_harmonic_mean_is_zero_as_soon_as_one_part_is() -> None:
    assert harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert harmonic_mean([0.9, 0.0, 0.8]) == 0.0


def test_kolmogorov_smirnov_of_a_sample_with_itself_is_one() -> None:
    values = np.random.default_rng(6).normal(size=20)
    assert ks_p_value(values, values) == 1.0
    assert ks_p_value(values, values + 5) < 1e-6


def test_rank_correlation_by_hand_and_at_its_edges() -> None:
    found = rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert found.value == pytest.approx(1 - 6 * 4 / (5 * 24))  # sum of squared rank differences is 4
    assert rank_correlation([1, 1, 1], [1, 2, 3]).value is None
    assert rank_correlation([1, 2], [1, 2]).value is None
    assert rank_correlation([1, 2, 3, 4], [1, 2, 3, 4]).low is None


@pytest.mark.oracle("holm")
def test_holm_by_hand() -> None:
    """Four tests at 5 %: in order of their p-values they are held to 0.0125, 0.0167, 0.025 and 0.05."""
    levels = [0.0125, 0.05 / 3, 0.025, 0.05]
    found = holm([0.001, 0.02, 0.013, 0.04], 0.05)
    assert [level for level, _ in found] == pytest.approx([levels[0], levels[2], levels[1], levels[3]])
    assert [rejected for _, rejected in found] == [True] * 4
    # The third exceeds its share, and the fourth falls with it although 0.04 < 0.05.
    assert [rejected for _, rejected in holm([0.001, 0.03, 0.013, 0.04], 0.05)] == [True, False, True, False]
    assert holm([0.025], 0.025) == [(0.025, True)]
    assert holm([], 0.05) == []


@pytest.mark.oracle("holm")
def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """A hypothesis is rejected when each set that it is in has a p-value of at most level / size."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values = rng.uniform(0, 0.05, size=4).tolist()
        sets = [[i for i in range(4) if number >> i & 1] for number in range(1, 16)]
        closed = [
            all(min(p_values[j] for j in chosen) <= 0.05 / len(chosen) for chosen in sets if i in chosen)
            for i in range(4)
        ]
        assert [rejected for _, rejected in holm(p_values, 0.05)] == closed
