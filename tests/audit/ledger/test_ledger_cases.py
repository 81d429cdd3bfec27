"""Where requests stand, when they are due, when their rows should be asked again; which copies still hold them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from letheon.audit.ledger import derivatives
from letheon.audit.ledger.cases import Case, cases
from letheon.audit.ledger.entry import Asked, AuditRef, Derivative, Entry, ModelRef
from letheon.audit.ledger.store import Ledger
from letheon.audit.record.evidence import Value
from letheon.core.errors import InputError

NOW = datetime(2026, 4, 3, 12, tzinfo=UTC)
MEASURED = {"recall": Value(value=0.0, low=0.0, high=0.5, n=4)}


def entries(*written: dict[str, Any]) -> list[Entry]:
    common = {"time": "2026-04-01T00:00:00Z", "actor": "x"}
    return [Entry(**{**common, "sequence": i, **one}) for i, one in enumerate(written, start=1)]


def case_of(*written: dict[str, Any]) -> Case:
    return cases(entries(*written))["r"]


def verdict(outcome: Any) -> AuditRef:
    return AuditRef(sha256="0" * 64, verdict=outcome, profile="standard", profile_sha256="0" * 64)


A, B, C = (ModelRef(name=letter, sha256=letter * 64) for letter in "abc")
BEGUN = {"action": "begin", "request": "r", "due": "2026-04-02"}
DONE = {
    "action": "forget",
    "request": "r",
    "measured": MEASURED,
    "audit": verdict("pass"),
    "before": A,
    "after": B,
}
FAILED = {**DONE, "audit": verdict("fail")}
CLOSED = {"action": "close", "request": "r"}


@pytest.mark.parametrize(
    ("written", "state", "overdue"),
    [
        ([BEGUN], "begun", True),
        ([BEGUN, {"action": "stop", "request": "r", "outcome": "TrainingError"}], "stopped", True),
        ([BEGUN, DONE], "done", False),
        ([BEGUN, FAILED], "done", True),
        ([BEGUN, FAILED, CLOSED], "closed", False),
        ([BEGUN, DONE, BEGUN], "begun", True),
        ([{**BEGUN, "due": "2026-04-03"}], "begun", False),
        ([{**BEGUN, "due": None}], "begun", False),
        ([{**BEGUN, "due": "soon"}], "begun", False),
        ([{**DONE, "action": "audit"}], "audited", False),
    ],
)
def test_where_a_request_stands(written: list[dict[str, Any]], state: str, overdue: bool) -> None:
    case = case_of(*written)
    assert (case.state, case.overdue(NOW)) == (state, overdue)


def test_rows_are_asked_again_after_a_while_and_at_once_after_a_later_deletion() -> None:
    assert case_of(BEGUN).recheck(NOW) == "", "nothing was measured"
    assert case_of(BEGUN, DONE).recheck(NOW) == "2026-06-30", "90 days after it was measured"
    assert case_of(BEGUN, DONE).recheck(datetime(2026, 8, 1, tzinfo=UTC)) == "now"
    elsewhere = {**DONE, "request": "later", "before": C, "after": A}
    assert case_of(BEGUN, DONE, elsewhere).recheck(NOW) == "2026-06-30", "a deletion from another model"
    later = {**DONE, "request": "later", "before": B, "after": C}
    assert case_of(BEGUN, DONE, later).recheck(NOW) == "now"
    asked = Asked(request="r", rows=4, of=4, then=MEASURED, now=MEASURED, outcome="still gone")
    looked = case_of(BEGUN, DONE, later, {"action": "recheck", "asked": [asked]})
    assert (looked.recheck(NOW), looked.returned) == ("2026-06-30", "still gone")
    assert case_of(BEGUN, DONE, later, CLOSED).recheck(NOW) == "", "there is no key to know its rows by"


def model(letter: str) -> ModelRef:
    return ModelRef(name=letter, sha256=letter * 64)


def copy(letter: str, parent: str) -> Derivative:
    return Derivative(sha256=letter * 64, kind="gguf", path=f"{letter}.gguf", parent=parent * 64)


def deletion(request: str, before: str, after: str) -> dict[str, Any]:
    return {"action": "forget", "request": request, "before": model(before), "after": model(after)}


def held(*written: dict[str, Any]) -> dict[str, list[str]]:
    return {one.derivative.path[0]: one.holds for one in derivatives.standing(entries(*written))}


def test_copies_hold_what_was_deleted_from_their_parent_until_they_are_replaced() -> None:
    story = [
        {"action": "derivative", "derivative": copy("d", parent="a")},
        {"action": "derivative", "derivative": copy("e", parent="d")},
        deletion("r-1", "a", "b"),
        {"action": "derivative", "derivative": copy("f", parent="b")},
        deletion("r-2", "b", "c"),
        {"action": "derivative", "derivative": copy("1", parent="c")},
        deletion("other", "8", "9"),
    ]
    assert held(*story) == {"d": ["r-1", "r-2"], "e": ["r-1", "r-2"], "f": ["r-2"], "1": []}
    replaced = {"action": "replace", "replaced": "d" * 64, "derivative": copy("2", parent="c")}
    withdrawn = {"action": "replace", "replaced": "f" * 64}
    assert held(*story, replaced, withdrawn) == {"e": ["r-1", "r-2"], "1": [], "2": []}


def test_a_derivative_is_recorded_once_and_found_by_hash_or_path(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    made = derivatives.describe(tmp_path / "model.gguf", "gguf", "a" * 64)
    derivatives.add(ledger, made)
    with pytest.raises(InputError, match="recorded already"):
        derivatives.add(ledger, made)
    for name in (made.sha256[:8], made.path):
        assert derivatives.find_standing(ledger, name).derivative == made
    with pytest.raises(InputError, match="names 0 derivatives"):
        derivatives.find_standing(ledger, "zz")
    derivatives.replace(ledger, derivatives.find_standing(ledger, made.path), None)
    assert not derivatives.standing(ledger.entries())
    with pytest.raises(InputError, match="does not exist"):
        derivatives.describe(tmp_path / "none.gguf", "gguf", "a" * 64)


def test_a_parent_may_be_a_model_by_name(tmp_path: Path) -> None:
    from letheon.core.model.models import load

    tiny = load("tiny", device="cpu")
    tiny.save(tmp_path / "copy")
    made = derivatives.describe(tmp_path / "copy", "merge", "tiny")
    assert made.parent == tiny.parameters_hash()
