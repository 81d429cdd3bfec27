"""The rule that judges claims: Student's t, Holm over primary parts; its coverage and its false verdicts, simulated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from letheon.core.errors import LetheonError
from letheon.core.statistics import mean_test
from letheon.papers.kit.findings import LEVEL, Findings, Pairs, judge, together
from letheon.papers.outcome import Scale

RUNS = 4000  # the standard error of a rate of 0.05 is 0.0035
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def skewed_differences(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.exponential(size=shape) - rng.exponential(size=shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Skewness 1, the long tail of each part on a side of its own."""
    return (rng.gamma(4, size=shape) - 4) * rng.choice([-1, 1], (*shape[:-1], 1))


def p_values(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided p-values over the last axis, as `mean_test` has them, and the means."""
    mean = draws.mean(-1)
    t = mean / (draws.std(-1, ddof=1) / np.sqrt(draws.shape[-1]))
    return 2 * stats.t.sf(np.abs(t), draws.shape[-1] - 1), mean


def claim_fails(p: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """For each row of parts, whether Holm's procedure rejects one on the wrong side of "above 0"."""
    order = np.argsort(p, 1)
    limits = LEVEL / (p.shape[1] - np.arange(p.shape[1]))
    rejected = np.cumprod(np.take_along_axis(p, order, 1) <= limits, 1).astype(bool)
    return (rejected & (np.take_along_axis(mean, order, 1) < 0)).any(1)


@pytest.mark.parametrize("draw", [normal, skewed_differences, skewed])
@pytest.mark.parametrize("seeds", [5, 8])
@pytest.mark.parametrize("parts", [1, 2, 4, 10])
def test_false_verdicts_are_rare(draw: Draw, seeds: int, parts: int) -> None:
    """All parts lie on their thresholds; for a false "holds" the worst case is one such part beside certain ones."""
    p, mean = p_values(draw(np.random.default_rng(seeds + parts), (RUNS, parts, seeds)))
    assert claim_fails(p, mean).mean() <= 0.06
    assert ((p[:, 0] <= LEVEL) & (mean[:, 0] > 0)).mean() <= 0.06
    if draw is normal:
        assert (p > LEVEL).mean() >= 0.93  # coverage of the 95 % interval


def test_the_simulated_rule_is_the_rule_itself() -> None:
    draws = np.random.default_rng(0).standard_normal((200, 3, 5)) - 1.0
    p, mean = p_values(draws)
    for row, row_p, row_mean in zip(draws, p, mean, strict=True):
        found = Findings()
        for i, values in enumerate(row):
            found.decide(str(i), values.tolist(), above=0.0)
        assert [one.p for one in found.judged.values()] == pytest.approx(row_p.tolist())
        assert (found.verdict == "fails") == bool(claim_fails(row_p[None], row_mean[None])[0])
        assert (found.verdict == "holds") == bool(((row_p <= LEVEL) & (row_mean > 0)).all())


def test_without_holm_true_claims_of_ten_parts_fail_in_a_fifth_of_the_runs() -> None:
    p, mean = p_values(np.random.default_rng(1).standard_normal((RUNS, 10, 5)))
    assert ((p <= LEVEL) & (mean < 0)).any(1).mean() > 0.2


def test_the_interval_is_students() -> None:
    """Mean 3, standard deviation 1.5811, standard error 0.7071, t(4) at 97.5 % = 2.7764."""
    test = mean_test([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (test.low, test.high) == (pytest.approx(3 - 1.9634, abs=1e-3), pytest.approx(3 + 1.9634, abs=1e-3))
    assert test.p == pytest.approx(stats.ttest_1samp([1, 2, 3, 4, 5], 0).pvalue)
    assert mean_test([1.0, 2.0, 3.0, 4.0, 5.0], threshold=3.0).p == pytest.approx(1.0)


@pytest.mark.parametrize("seeds", [3, 6, 8, 20])
def test_equal_values_decide_nothing_unless_no_seed_can_change_them(seeds: int) -> None:
    assert judge([0.5] * seeds, above=0.0) == (0.5, None, "inconclusive", 1.0, seeds)
    for side, threshold, verdict in (
        ("above", 0.0, "holds"),
        ("below", 0.0, "fails"),
        ("above", 0.5, "inconclusive"),
    ):
        judged = judge([0.5] * seeds, deterministic=True, **{side: threshold})  # type: ignore[arg-type]
        assert (judged.interval, judged.verdict) == (None, verdict)
    assert judge([0.5, 0.5], above=0.0, deterministic=True).verdict == "inconclusive"
    spread = [0.5 + seed / 100 for seed in range(seeds)]
    assert judge(spread, above=0.4, deterministic=True) == judge(spread, above=0.4)


def test_a_part_without_chance_is_decided_by_its_equal_values() -> None:
    found = Findings(primary=("count",))
    found.decide_without_chance("count", [4.0] * 5, above=3.0)
    assert (found.verdict, found.thresholds) == ("holds", {"count": {"above": 3.0}})
    with pytest.raises(LetheonError, match="was not named before the run"):
        found.decide_without_chance("luck", [4.0] * 5, above=3.0)


def test_differences_of_rounding_decide_nothing() -> None:
    """The last bits of equal arms differ by about 1e-17, all one way or scattered."""
    for noise in ([1e-17] * 8, [1e-17 * (1 + seed % 3) for seed in range(8)]):
        assert judge(noise, above=0.0).verdict == "inconclusive"
        assert judge(noise, above=0.0, deterministic=True).verdict == "inconclusive"
    single = [1 + (seed % 2) * 1.2e-7 for seed in range(8)]  # one unit of float32
    assert judge(Pairs([1.0] * 8, single), above=0.0).verdict == "inconclusive"
    large = [1e6 + seed for seed in range(8)]  # sums of a million: their last bits are 1e-10
    ours = [value + 1e-9 * (1 + seed % 2) for seed, value in enumerate(large)]
    assert judge(Pairs(large, ours), above=0.0).verdict == "inconclusive"
    assert judge(Pairs([1e-6 * s for s in range(8)], [1e-6 * s + 1e-7 + 1e-9 * s for s in range(8)]), above=0.0) == (
        pytest.approx(1e-7 + 3.5e-9),
        [pytest.approx(1e-7, abs=3e-9), pytest.approx(1e-7, abs=7e-9)],
        "holds",
        pytest.approx(0.0, abs=1e-6),
        8,
    )


def test_pairs_are_judged_by_their_differences() -> None:
    """Values differ by seed far more than arms do."""
    baseline = [0.1, 0.9, 0.4, 0.6, 0.2]
    ours = [value + 0.01 + seed / 1000 for seed, value in enumerate(baseline)]
    assert judge(Pairs(baseline, ours), above=0.0).verdict == "holds"
    assert judge(Pairs(baseline, ours), below=0.0).verdict == "fails"


def test_two_seeds_decide_nothing() -> None:
    assert judge([1.0, 1.01], above=0.0).verdict == "inconclusive"
    assert judge([1.0, 1.01, None], above=0.0).p == 1.0
    assert judge([1.0, 1.01, 0.99], above=0.0).verdict == "holds"


def test_a_claim_fails_only_by_a_part_that_holm_rejects() -> None:
    assert together({"a": "holds", "b": "fails"}, {"a": 0.001, "b": 0.04}) == "fails"
    assert together({"a": "inconclusive", "b": "fails"}, {"a": 0.2, "b": 0.04}) == "inconclusive"
    assert together({"a": "inconclusive", "b": "fails"}, {"a": 0.2, "b": 0.02}) == "fails"
    assert together({}, {}) == "inconclusive"


def test_a_part_that_was_not_named_before_the_run_is_refused() -> None:
    found = Findings(primary=("gain", "cost"))
    found.decide("gain", [1.0, 1.1, 0.9], above=0.0)
    with pytest.raises(LetheonError, match="'luck' was not named before the run"):
        found.decide("luck", [1.0, 1.1, 0.9], above=0.0)
    assert found.verdict == "inconclusive", "a named part that was not measured leaves the claim open"
    found.decide("cost", [1.0, 1.1, 0.9], above=0.0)
    assert found.verdict == "holds"


def test_a_check_that_is_not_met_leaves_the_claim_open() -> None:
    found = Findings()
    found.decide("gain", [1.0, 1.1, 0.9], above=0.0)
    found.check("arms have equal sizes", False)
    assert found.verdict == "inconclusive"
    assert found.outcome("gu", "claim", Scale(), 1.0).checks == {"arms have equal sizes": False}


def test_a_seed_without_a_value_leaves_a_part_open_unless_the_claim_is_of_the_others() -> None:
    """Seeds mostly lack a value because of their outcome: what is left would be chosen by it."""
    values = [None] * 5 + [0.9, 0.91, 0.92]
    found, others = Findings(primary=("part",)), Findings(primary=("part",))
    found.decide("part", values, above=0.5)
    others.decide("part", values, above=0.5, gaps=True)
    assert (found.verdict, others.verdict) == ("inconclusive", "holds")
    assert others.outcome("gu", "claim", Scale(seeds=tuple(range(8))), 1.0).primary["part"]["n"] == 3


def test_what_cannot_be_computed_decides_nothing_and_stops_nothing() -> None:
    found = Findings(primary=("nan", "fails", "none"))
    found.decide("nan", [float("nan"), 1.0, 2.0], above=0.0)
    found.decide("fails", [-1.0, -1.1, -1.2, -1.05, -1.15], above=0.0)
    found.recompute("none", [])
    assert (found.parts["nan"], found.parts["none"], found.verdict) == ("inconclusive", "inconclusive", "fails")
