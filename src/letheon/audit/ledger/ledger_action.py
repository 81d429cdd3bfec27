"""A deed - a deletion, or an audit of one - and what the audit record says of it beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from letheon.audit.ledger.commitments import SCHEME
from letheon.audit.ledger.derivatives import standing
from letheon.audit.ledger.entry import Commitments, Entry, ModelRef, Output
from letheon.audit.ledger.store import Ledger, Writing
from letheon.audit.record.evidence import Part, Subset, Value
from letheon.audit.record.provenance import Chain, Copy, Procedure, Retention, Scope, SubjectModel
from letheon.audit.record.record import Audit
from letheon.core.atomic import sha256_of
from letheon.core.runs import utc_now
from letheon.forget.request import SUBSETS, Request

# What the ledger keeps of an audit to compare a later model with.
MEASURED = ("recall", "probability")


@dataclass
class Deed:
    """What a deletion or an audit did.

    Attributes:
        action: `forget`, or `audit` for a deletion that was made elsewhere.
        run: what `config.json` of the run says, with its settings, versions and start; `stopped`: why the run ended.
        output: folder of the model that was written or audited; empty where it is none at hand.
        measured: what is known of the rows afterwards, where there is no record to take it from.
    """

    action: Literal["forget", "audit"]
    request: Request
    before: ModelRef
    after: ModelRef
    record: Audit | None = None
    run: dict[str, Any] = field(default_factory=dict)
    output: Path | None = None
    measured: dict[str, Value] = field(default_factory=dict)


def counts(request: Request) -> dict[Subset, int]:
    """Number of rows in each set."""
    return {name: len(getattr(request, name)) for name in SUBSETS}  # type: ignore[misc]  # these are the subsets' names


def measured(record: Audit) -> dict[str, Value]:
    """What the model after knows of the forget rows."""
    found = {name: record.metric(name, "forget", "after") for name in MEASURED}
    return {name: metric.value for name, metric in found.items() if metric is not None}


def described(record: Audit, deed: Deed, output: Output | None) -> Audit:
    """A record with the parts that are known without a ledger, and why the others are absent."""
    folder = Path(deed.before.name)
    files = files_of(folder) if folder.is_dir() else {}
    subject = SubjectModel(
        name=deed.before.name,
        sha256=deed.before.sha256,
        files=files,
        files_absent=None if files else "the model was named by an id: its files are not at hand",
        lineage="unknown: Letheon is not told what the model was trained on",
    )
    scope = Scope(
        counts=counts(deed.request),
        found="the rows were given with the request",
        not_scoped=[
            "near-duplicates and other wordings of the rows in the training data were not searched for",
            "copies of the model that no ledger knows of",
        ],
    )
    parts = {"scope": scope, "subject": subject, "procedure": _procedure(deed.run), "output": output}
    absent = {
        "procedure": "the deletion was made elsewhere: the audit knows both models, not how one became the other",
        "output": "the model after was named by an id: its files are not at hand",
        "chain": "no ledger was given",
        "retention": "without a ledger nothing is kept of the request but this record and the run's folder",
    }
    missing = {name: why for name, why in absent.items() if parts.get(name) is None}
    return Audit(**{**dict(record), **parts, "absent": missing})


def entered(known: Audit, deed: Deed, ledger: Ledger, writing: Writing, commitments: Commitments) -> Audit:
    """The same with what the ledger adds: commitments, copies, who did it, where the entry stands, what is kept."""
    entries = ledger.entries()
    this = Entry(
        sequence=writing.sequence,
        time=utc_now(),
        actor=ledger.actor,
        action=deed.action,
        request=deed.request.id,
        before=deed.before,
        after=deed.after,
    )
    copies = [
        Copy(kind=one.derivative.kind, sha256=one.derivative.sha256, holds=one.holds)
        for one in standing([*entries, this])
        if deed.request.id in one.holds
    ]
    chain = Chain(
        ledger=entries[0].ledger or "",
        sequence=writing.sequence,
        previous=writing.previous,
        signed_by=ledger.signer.id if ledger.signer else None,
    )
    also = ", and that in its shallow/," if "deep" in deed.run.get("config", {}) else ""
    retention = Retention(
        record="this file holds texts of the rows in its answers: whoever answers for the case keeps or deletes it; "
        "the ledger keeps its hash",
        rows=f"request.json in the run's folder{also} holds the rows until somebody deletes it; Letheon does not",
        key=f"key {commitments.key} lives until letheon ledger close",
    )
    parts = {
        "scope": _with(known.scope, scheme=SCHEME, commitments=commitments),
        "subject": _with(known.subject, derivatives=copies),
        "procedure": _with(known.procedure, operator=ledger.actor),
        "chain": chain,
        "retention": retention,
    }
    absent = {name: why for name, why in known.absent.items() if parts.get(name) is None}
    return Audit(**{**dict(known), **parts, "absent": absent})


def _with(part: Part | None, **more: Any) -> Part | None:
    return part.model_copy(update=more) if part is not None else None


def _procedure(run: dict[str, Any]) -> Procedure | None:
    if not run:
        return None
    return Procedure(
        method=run["config"]["method"],
        settings=settings_of(run),
        versions=run.get("versions", {}),
        started=run.get("started"),
        stopped=run.get("stopped"),
    )


def settings_of(run: dict[str, Any]) -> dict[str, Any]:
    """What was decided for a run, without the hashes of its rows."""
    config = run.get("config", {})
    return {name: config[name] for name in ("recipe", "settings", "training", "deep", "sequence") if name in config}


def output_of(folder: Path | None) -> Output | None:
    """The folder of a model with the hashes of its files; None where it is no folder."""
    return Output(folder=str(folder), files=files_of(folder)) if folder is not None and folder.is_dir() else None


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a model's folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
