"""Which rows meet: every forget row once an epoch, retain rows by chance or in turn, the same under a seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.core.rows.examples import Example
from letheon.forget.request import Request
from letheon.forget.samplers.cyclic import Cyclic
from letheon.forget.samplers.paired import Paired


def rows(forget: int, retain: int) -> Request:
    """A request with so many rows."""
    return Request(
        forget=tuple(Example(f"f{i}", "a") for i in range(forget)),
        retain=tuple(Example(f"r{i}", "a") for i in range(retain)),
    )


@pytest.mark.oracle("paired")
def test_paired_visits_every_forget_row_once_an_epoch_with_a_retain_row_each() -> None:
    plan = Paired().plan(rows(10, 50), batch_size=4, steps=6, seed=0)
    assert [len(met) for met, _ in plan] == [4, 4, 2, 4, 4, 2]
    assert sorted(row for met, _ in plan[:3] for row in met) == list(range(10))
    assert [len(met) for met, _ in plan] == [len(kept) for _, kept in plan]
    assert plan[:3] != plan[3:]  # a new order each epoch


@pytest.mark.oracle("paired")
def test_paired_draws_retain_rows_uniformly_with_replacement() -> None:
    plan = Paired().plan(rows(4, 5), batch_size=4, steps=2500, seed=0)
    counts = Counter(row for _, kept in plan for row in kept)
    assert set(counts) == set(range(5))
    # 10 000 draws over 5 rows: standard deviation 40; five of them
    assert all(abs(count - 2000) < 200 for count in counts.values())


def test_paired_repeats_under_a_seed_and_differs_under_another() -> None:
    plans = [Paired().plan(rows(8, 8), 4, 4, seed) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.oracle("cyclic")
def test_cyclic_goes_round_both_files_in_order() -> None:
    plan = Cyclic().plan(rows(3, 2), batch_size=2, steps=3, seed=9)
    assert plan == [([0, 1], [0, 1]), ([2, 0], [0, 1]), ([1, 2], [0, 1])]


@pytest.mark.parametrize("sampler", [Paired(), Cyclic()])
@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 12), st.integers(1, 9))
def test_plans_have_the_asked_length_and_rows_that_exist(
    sampler: Paired | Cyclic, forget: int, retain: int, batch_size: int, steps: int
) -> None:
    plan = sampler.plan(rows(forget, retain), batch_size, steps, 0)
    assert len(plan) == steps
    for met, kept in plan:
        assert 1 <= len(met) <= batch_size
        assert all(0 <= row < forget for row in met)
        assert all(0 <= row < retain for row in kept)
        assert len(kept) == (len(met) if retain else 0)
