"""A deletion's two entries, the audit that they speak of, and what the record says beside its numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from letheon.audit.ledger import recording
from letheon.audit.ledger.chain import check
from letheon.audit.ledger.commands import finish_run
from letheon.audit.ledger.entry import Derivative, ModelRef
from letheon.audit.ledger.exchange import export, find_audit, lines_of, read_head, statement
from letheon.audit.ledger.ledger_action import Deed
from letheon.audit.ledger.store import Ledger
from letheon.audit.record.evidence import Value
from letheon.audit.record.record import Audit
from letheon.core.atomic import sha256_of
from letheon.core.errors import InputError, LetheonError
from letheon.core.training.loop import TrainingOutcome
from letheon.forget.request import Request
from letheon.forget.settings import Result

RUN: dict[str, Any] = {
    "config": {"method": "npo", "settings": {"steps": 2}, "training": {"seed": 2**60}, "request": {"rows": "secret"}},
    "versions": {"letheon": "0.1.0"},
    "started": "2026-03-02T09:00:00Z",
}


@pytest.fixture
def deed(tmp_path: Path, case: Request, before: ModelRef, after: ModelRef, record: Audit) -> Deed:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    return Deed("forget", case, before, after, record, RUN, model)


def test_a_deletion_has_an_entry_before_and_one_after(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    recording.begin(ledger, deed.request, deed.before, "npo", {"steps": 2})
    recording.finish(deed, ledger, tmp_path / "run")
    _, begin, outcome = ledger.entries()
    assert (begin.action, outcome.action) == ("begin", "forget")
    assert begin.before == outcome.before == deed.before
    assert begin.commitments is not None
    assert outcome.commitments is None, "its rows are committed to already"
    assert outcome.after == deed.after
    assert outcome.measured is not None
    assert outcome.measured["recall"].high == 0.66
    assert outcome.output is not None
    assert outcome.output.files == {"model.safetensors": sha256_of(tmp_path / "run/model/model.safetensors")}
    assert outcome.audit is not None
    assert outcome.audit.sha256 == sha256_of(tmp_path / "run/audit.json")
    assert outcome.settings == {"settings": {"steps": 2}, "training": {"seed": str(2**60)}}
    assert "secret" not in str(ledger.lines()), "plain hashes of rows stay in the run"


def test_the_record_says_where_its_entry_stands(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    recording.finish(deed, ledger, tmp_path / "run")
    written = Audit.read(tmp_path / "run/audit.json")
    assert written.chain is not None
    assert (written.chain.sequence, written.chain.previous) == (2, ledger.line(1).hash)
    assert written.scope is not None
    assert written.scope.commitments == ledger.entries()[1].commitments
    assert written.procedure is not None
    assert (written.procedure.method, written.procedure.operator) == ("npo", "tester")
    assert written.output is not None
    assert written.subject is not None
    assert written.subject.files_absent
    assert written.retention is not None
    assert "shallow/" not in written.retention.rows
    assert written.absent == {}


def test_the_record_tells_why_the_run_ended_and_what_the_deletion_warned_of(deed: Deed, tmp_path: Path) -> None:
    """Also where record and report lie beside the run, as a demo's do."""
    stored = {**RUN, "config": {**RUN["config"], "start": "a" * 64}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    model = SimpleNamespace(parameters_hash=lambda: "b" * 64)
    outcome = TrainingOutcome(4, "goals reached", [], 1.0)
    conflict = "forget row f-1: retain row k-9 states its fact"
    result = Result(cast("Any", model), outcome, 0.1, deed.request, [conflict], tmp_path / "run")
    finish_run("", result, deed.record, "before", tmp_path / "demo")
    written = Audit.read(tmp_path / "demo" / "audit.json")
    assert written.warnings[-1] == f"The deletion: {conflict}"
    assert written.procedure is not None
    assert written.procedure.stopped == "goals reached"
    report = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "Ended because" in report
    assert "k-9 states its fact" in report


def test_the_record_of_a_deep_run_names_both_copies_of_the_rows(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    config = {**RUN["config"], "deep": {"method": "undo"}}
    full = recording.finish(replace(deed, run={**RUN, "config": config}), ledger, tmp_path / "run")
    assert full is not None
    assert full.retention is not None
    assert "that in its shallow/" in full.retention.rows


def test_the_record_lists_the_copies_that_hold_its_rows_from_now_on(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    for letter, parent in (("d", deed.before.sha256), ("e", "9" * 64)):
        copy = Derivative(sha256=letter * 64, kind="gguf", path=f"{letter}.gguf", parent=parent)
        ledger.append("derivative", derivative=copy)
    full = recording.finish(deed, ledger, tmp_path / "run")
    assert full is not None
    assert full.subject is not None
    assert [(copy.sha256[0], copy.holds) for copy in full.subject.derivatives] == [("d", ["case-7"])]


def test_without_a_ledger_the_record_says_why_it_names_none(deed: Deed, tmp_path: Path) -> None:
    full = recording.finish(deed, None, tmp_path / "run")
    assert full is not None
    assert set(full.absent) == {"chain", "retention"}
    assert "no ledger" in full.absent["chain"]
    assert full.scope is not None
    assert full.scope.commitments is None


def test_an_audit_of_a_deletion_made_elsewhere_knows_no_procedure(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    full = recording.finish(replace(deed, action="audit", run={}, output=None), ledger, tmp_path / "run")
    assert full is not None
    assert set(full.absent) == {"procedure", "output"}
    assert ledger.entries()[-1].commitments is not None


def test_where_the_entry_cannot_be_written_the_audit_is_kept_and_names_none(
    ledger: Ledger, deed: Deed, tmp_path: Path
) -> None:
    ledger.connection.execute("PRAGMA max_page_count = 4")
    large = {**RUN, "config": {**RUN["config"], "settings": {"long": "x" * 20_000}}}
    with pytest.raises(LetheonError, match="disk is full"):
        recording.finish(replace(deed, run=large), ledger, tmp_path / "run")
    written = Audit.read(tmp_path / "run/audit.json")
    assert written.chain is None
    assert "could not be written" in written.absent["chain"]
    assert len(ledger.entries()) == 1
    assert not list((ledger.folder / "keys").iterdir()), "the key of an entry that is not there"


def test_a_deletion_that_was_not_audited_has_an_entry_too(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    value = Value(value=0.1, n=2)
    assert recording.finish(replace(deed, record=None, measured={"probability": value}), ledger, tmp_path) is None
    entry = ledger.entries()[-1]
    assert entry.audit is None
    assert entry.measured == {"probability": value}
    assert not (tmp_path / "audit.json").exists()


def test_an_export_is_verified_without_the_ledger(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    recording.finish(deed, ledger, tmp_path / "run")
    assert export(ledger, tmp_path / "ledger.jsonl") == 2
    content = (tmp_path / "ledger.jsonl").read_bytes()
    found = check(lines_of(content), ledger.head())
    assert found.whole
    find_audit(lines_of(content), tmp_path / "run/audit.json", found)
    assert any("audit of entry 2" in note for note in found.notes)
    (tmp_path / "run/audit.json").write_text("{}")
    find_audit(lines_of(content), tmp_path / "run/audit.json", found)
    assert "of no entry" in found.faults[0].problem


def test_a_broken_ledger_is_not_exported(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append("begin", request="r")
    ledger.connection.execute("DROP TRIGGER no_delete")
    ledger.connection.execute("DELETE FROM entries WHERE sequence = 1")
    with pytest.raises(LetheonError, match="not whole: entry 1"):
        export(ledger, tmp_path / "ledger.jsonl")
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_statement_speaks_of_the_models_files_and_of_no_rows(ledger: Ledger, deed: Deed, tmp_path: Path) -> None:
    recording.finish(deed, ledger, tmp_path / "run")
    made = statement(ledger, "case-7")
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert [subject["name"] for subject in made["subject"]] == ["model.safetensors"]
    assert made["predicate"]["chain"]["hash"] == ledger.line(2).hash
    assert made["predicate"]["audit"]["sha256"] == sha256_of(tmp_path / "run/audit.json")
    assert "commitments" not in json.dumps(made)
    with pytest.raises(InputError, match="no model files for request 'other'"):
        statement(ledger, "other")


def test_a_head_is_read_from_a_hash_or_a_file(tmp_path: Path) -> None:
    assert read_head("a" * 64) == "a" * 64
    (tmp_path / "head.json").write_text('{"strange": 1}')
    with pytest.raises(InputError, match="holds no head"):
        read_head(str(tmp_path / "head.json"))
    for given in ("none.json", "abc", "A" * 64):
        with pytest.raises(InputError, match="does not exist"):
            read_head(given)
