"""Forget rows that the model before never held: which ones, and what the audit says of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from letheon.audit.record.remarks import _not_held, never_held
from letheon.core.rows.examples import Example

ROWS = [Example("Who?", "Ann.", id=name) for name in "abcde"]


def measured(recall: list[float], values: list[float | None], controls: list[float | None]) -> tuple[Any, Any]:
    """A model before that gives some facts, and the plan of five rows; the controls are of the last four."""
    rows = [SimpleNamespace(example=row, recall=share) for row, share in zip(ROWS, recall, strict=True)]
    forget = SimpleNamespace(rows=rows, known=lambda name: recall)
    before = SimpleNamespace(forget=forget, value_probability=values, control_probability=controls)
    return before, SimpleNamespace(facts=ROWS, controls=ROWS[1:], forget=ROWS)


def test_a_row_is_not_held_if_its_fact_is_not_given_and_no_likelier_than_beside_unknown_names() -> None:
    before, plan = measured([0, 1, 0, 0, 0], [0.01, 0.9, 0.02, 0.5, None], [0.01, 0.02, 0.01, 0.01])
    assert never_held(before, plan) == ["c"], "a has no control, b is given, d is likely, e has no value"
    (said,) = _not_held({"before": before}, plan)
    assert "1 of the 5 forget rows were never held" in said
    assert "(c)" in said


def test_nothing_is_said_where_all_rows_are_held_or_none_is_known() -> None:
    before, plan = measured([0, 1, 0, 0, 0], [0.5] * 5, [0.01] * 4)
    assert list(_not_held({"before": before}, plan)) == []
    before, plan = measured([0] * 5, [0.01] * 5, [0.01] * 4)
    assert len(never_held(before, plan)) == 4
    assert list(_not_held({"before": before}, plan)) == [], "that nothing is known is said by another warning"
