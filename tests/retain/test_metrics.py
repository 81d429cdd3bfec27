"""The metrics by hand: a table with a dip in the middle of a task that the tasks' ends do not show."""

from __future__ import annotations

import numpy as np
import pytest

from letheon.retain import metrics
from letheon.retain.metrics import Curve

pytestmark = pytest.mark.oracle("stability-gap")
NAN = float("nan")


@pytest.fixture
def curve() -> Curve:
    """Two tasks of four steps; in the second, the first task sinks to 0.3 and comes back to 0.8."""
    one = Curve(2)
    one.add(0, -1, [0.1, 0.2], [2.0, 2.0])
    for step, accuracy in ((1, 0.5), (2, 0.7), (3, 0.8)):
        one.add(step, 0, [accuracy], [1.0])
    one.add(4, 0, [0.9, 0.3], [0.5, 2.0])
    one.ends.append(4)
    for step, pair in ((5, [0.6, 0.4]), (6, [0.3, 0.6]), (7, [0.7, 0.7])):
        one.add(step, 1, pair, [1.0, 1.0])
    one.add(8, 1, [0.8, 0.95], [0.7, 0.3])
    one.ends.append(8)
    return one


def test_the_matrix_has_a_row_before_and_a_row_after_each_task(curve: Curve) -> None:
    assert np.array_equal(curve.matrix(), [[0.1, 0.2], [0.9, 0.3], [0.8, 0.95]])


def test_averages_by_hand(curve: Curve) -> None:
    matrix = curve.matrix()
    assert metrics.average_accuracy(matrix) == pytest.approx((0.8 + 0.95) / 2)
    assert metrics.forgetting(matrix) == pytest.approx(0.9 - 0.8)
    assert metrics.backward_transfer(matrix) == pytest.approx(-0.1)
    assert metrics.forward_transfer(matrix) == pytest.approx(0.3 - 0.2)


def test_the_worst_case_sees_the_dip_and_only_what_came_after_the_tasks_own_end(curve: Curve) -> None:
    assert metrics.minimum_accuracy(curve) == pytest.approx(0.3)
    assert metrics.worst_case_accuracy(curve) == pytest.approx(0.95 / 2 + 0.3 / 2)
    ends_only = Curve(2)
    for place in (0, 4, 8):
        ends_only.add(curve.step[place], curve.task[place], curve.accuracy[place], curve.loss[place])
    ends_only.ends = curve.ends
    assert metrics.minimum_accuracy(ends_only) == pytest.approx(0.8), "the gap vanishes from view"


def test_the_highest_loss_of_an_old_task_is_that_since_its_own_end(curve: Curve) -> None:
    """Before its end the first task's loss was 2; a later task's loss does not count, nor does that of the newest."""
    assert metrics.maximum_loss(curve) == pytest.approx(1.0)
    assert metrics.summary(curve)["maximum loss"] == pytest.approx(1.0)
    curve.loss[6][0] = NAN
    assert metrics.maximum_loss(curve) == pytest.approx(1.0)
    one = Curve(1, [0, 4], [-1, 0], [[0.1], [0.9]], [[2.0], [0.5]], [4])
    assert metrics.maximum_loss(one) is None


def test_windowed_drops_and_rises_by_hand(curve: Curve) -> None:
    """Task 1 falls from 0.9 to 0.3 in two steps (window 3), rises from 0.1 to 0.9; task 2 falls nowhere."""
    assert metrics.windowed_forgetting(curve, 3) == pytest.approx((0.6 + 0.0) / 2)
    assert metrics.windowed_forgetting(curve, 2) == pytest.approx((0.3 + 0.0) / 2)
    assert metrics.windowed_plasticity(curve, 100) == pytest.approx((0.8 + 0.65) / 2)


def test_a_rise_is_searched_from_the_minimum() -> None:
    """The authors' code skips what lies below the running maximum and finds no rise in this window."""
    values, steps = np.array([0.9, 0.1, 0.5]), np.arange(3)
    assert metrics.largest_drop(-values, steps, 3) == pytest.approx(0.4)
    assert metrics.largest_drop(values, steps, 3) == pytest.approx(0.8)


@pytest.mark.parametrize("window", [2, 5, 10, 100])
def test_the_largest_drop_is_that_of_all_pairs(window: int) -> None:
    rng = np.random.default_rng(0)
    values, steps = rng.random(60), np.cumsum(rng.integers(1, 4, 60))
    pairs = [(m, n) for n in range(60) for m in range(n) if steps[n] - steps[m] < window]
    best = max((values[m] - values[n] for m, n in pairs), default=0.0)
    assert metrics.largest_drop(values, steps, window) == pytest.approx(max(best, 0.0))


def test_values_that_were_not_measured_do_not_count() -> None:
    assert metrics.largest_drop(np.array([NAN, 0.9, NAN, 0.5]), np.arange(4), 10) == pytest.approx(0.4)


def test_one_task_has_no_forgetting() -> None:
    one = Curve(1)
    one.add(0, -1, [0.1], [2.0])
    one.add(3, 0, [0.9], [0.1])
    one.ends.append(3)
    found = metrics.summary(one)
    assert found["forgetting"] is None
    assert found["minimum accuracy"] is None
    assert found["worst-case accuracy"] == found["average accuracy"] == 0.9


def test_a_curve_survives_being_written(curve: Curve) -> None:
    again = Curve.from_json(curve.to_json())
    assert again.step == curve.step
    assert np.array_equal(again.accuracies(), curve.accuracies(), equal_nan=True)


def test_the_first_evaluations_of_each_task(curve: Curve) -> None:
    assert metrics.learning_curve_area(curve, 2) == pytest.approx(((0.5 + 0.7) / 2 + (0.4 + 0.6) / 2) / 2)
