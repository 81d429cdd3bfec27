"""Paper `pavlovian`: capacities, exponents, a small run, and how parts make a verdict."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from letheon.papers import pavlovian
from letheon.papers.kit.findings import Findings
from letheon.papers.pavlovian import blocking, crossing, figures, judge, measure, rounding, slope


@pytest.fixture(scope="module")
def seeds() -> list[dict[str, Any]]:
    return [measure(seed, trials=4) for seed in range(3)]


def judged(seeds: list[dict[str, Any]]) -> Findings:
    found = Findings()
    judge(seeds, found)
    return found


def test_the_load_at_which_recall_falls_below_is_found_between_two_points() -> None:
    assert crossing(100, {0.1: 0.95, 0.2: 0.90, 0.4: 0.8}) == pytest.approx(19)
    assert crossing(100, {0.1: 1.0, 0.4: 0.8}) == pytest.approx(19)


def test_an_exponent_is_the_slope_between_logarithms() -> None:
    assert slope({16: 8.0, 64: 16.0, 256: 32.0}) == pytest.approx(0.5)


def test_attention_and_recursion_differ_by_rounding_only() -> None:
    assert 0 < rounding(torch.Generator().manual_seed(0)) < pavlovian.ROUNDING


def test_the_delta_rule_blocks_and_hebb_does_not() -> None:
    from letheon.attend.pavlovian import Rule

    assert blocking(Rule("hebb")) == 0
    assert blocking(Rule("delta")) > 0.99


def test_a_small_run_has_every_part_and_a_lost_one_fails(seeds: list[dict[str, Any]]) -> None:
    result = judged(seeds)
    assert set(result.parts) == set(result.intervals) <= set(result.measured)
    assert result.parts["cosine at 16 d_k pairs"] == "holds"
    for one in seeds:
        assert one["average capacity"][256] > one["error-free capacity"][256]
    worse = [{**one, "rounding": 0.1} for one in seeds]
    assert judged(worse).checks["attention equals the recursion"] is False


def test_figures_are_drawn(seeds: list[dict[str, Any]]) -> None:
    drawn = figures(seeds[0])
    assert set(drawn) == {"capacity", "recall", "chains"}
    assert all(svg.startswith("<svg") for svg in drawn.values())
