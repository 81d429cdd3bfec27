"""What the commands `forget` and `audit` tell a ledger, where one was named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letheon.audit.ledger.entry import ModelRef
from letheon.audit.ledger.ledger_action import Deed
from letheon.audit.ledger.recording import begin, finish, refuse_personal_data
from letheon.audit.ledger.store import Ledger, named_signer, refuse_place
from letheon.audit.record.evidence import Value
from letheon.audit.record.record import Audit
from letheon.core.atomic import plain, read_json
from letheon.core.errors import Interrupted, LetheonError
from letheon.core.processes import is_main_process
from letheon.forget.request import Request

if TYPE_CHECKING:
    from letheon.core.model.models import LanguageModel
    from letheon.forget.sequences.sequence import SequenceResult
    from letheon.forget.settings import Result


def check_ledger(folder: str, requests: Sequence[Request], **texts: object) -> None:
    """Refuse a place, a key or a request that cannot be recorded, before any work is done.

    Args:
        texts: what else the entries will hold, by name: a model, a folder.
    """
    if not folder:
        return
    refuse_place(Path(folder), create=True)
    named_signer(None)
    for request in requests:
        refuse_personal_data(request, {name: str(text) for name, text in texts.items()})


@contextmanager
def writing_to(folder: str) -> Iterator[Ledger | None]:
    """The ledger that was named, made where there is none; nothing where none was named, or in a second process."""
    if not folder or not is_main_process():
        yield None
        return
    with closing(Ledger.open(Path(folder), create=True)) as ledger:
        yield ledger


@contextmanager
def deleting(
    folder: str, model: LanguageModel, requests: Sequence[Request], method: str, settings: dict[str, Any]
) -> Iterator[None]:
    """Around a deletion: the entries that it begins, and one that it stopped where it could not go on.

    An interrupted run has no such entry: it is continued.
    """
    with writing_to(folder) as ledger:
        if ledger is not None:
            before = ModelRef(name=model.name, sha256=model.parameters_hash())
            for request in requests:
                begin(ledger, request, before, method, plain(settings))
    try:
        yield
    except Interrupted:
        raise
    except LetheonError as error:
        with writing_to(folder) as ledger:
            if ledger is not None:
                for request in requests:  # only the kind of the error: its words may hold rows
                    ledger.append("stop", request=request.id, outcome=type(error).__name__)
        raise


def finish_run(folder: str, result: Result, record: Audit | None, before: str, out: Path | None = None) -> Audit | None:
    """The outcome of a deletion: record, report, entry; returns the record with all its parts.

    The record's warnings end with what the deletion itself has to say, such as which kept rows state a fact.

    Args:
        out: the folder of record and report, by default the run's.
    """
    if result.folder is None or not is_main_process() or not (folder or record):
        return record
    if record is not None:
        told = [f"The deletion: {warning}" for warning in result.warnings]
        record = record.model_copy(update={"warnings": [*record.warnings, *told]})
    stored = read_json(result.folder / "config.json")
    deed = Deed(
        action="forget",
        request=result.request,
        before=ModelRef(name=before, sha256=stored["config"]["start"]),
        after=ModelRef(name=str(result.folder / "model"), sha256=result.model.parameters_hash()),
        record=record,
        run={**stored, "stopped": result.outcome.stopped},
        output=result.folder / "model",
    )
    with writing_to(folder) as ledger:
        return finish(deed, ledger, out or result.folder)


def finish_audit(folder: str, record: Audit, request: Request, before: str, after: str, out: Path) -> Audit:
    """The audit of a deletion that was made elsewhere: record, report, entry."""
    models = {model.role: model.sha256 for model in record.models}
    deed = Deed(
        action="audit",
        request=request,
        before=ModelRef(name=before, sha256=models["before"]),
        after=ModelRef(name=after, sha256=models["after"]),
        record=record,
        output=Path(after),
    )
    with writing_to(folder) as ledger:
        return finish(deed, ledger, out) or record


def finish_sequence(folder: str, result: SequenceResult) -> None:
    """Record the outcomes of a queue's requests, one entry per request; requests that have one are passed over."""
    if result.folder is None:
        return
    with writing_to(folder) as ledger:
        if ledger is None:
            return
        known = {(entry.request, entry.after.sha256) for entry in ledger.entries() if entry.after}
        for deed in _deeds_of(result, result.folder):
            if (deed.request.id, deed.after.sha256) not in known:
                finish(deed, ledger, result.folder)


def _deeds_of(result: SequenceResult, folder: Path) -> Iterator[Deed]:
    """What a queue did, request by request: each changed the model that the one before it left."""
    stored = read_json(folder / "config.json")
    config = stored["config"]
    before = ModelRef(name=config["model"], sha256=config["start"])
    paths = sorted((folder / "requests").glob("request-*.json"))
    for report, path in zip(result.reports, paths, strict=True):
        last = report is result.reports[-1]
        after = ModelRef(name=str(folder / "model" if last else folder), sha256=report.weights)
        request = Request.read(path)
        asked = min(config["sequence"]["reaudit_rows"], len(request.forget))
        yield Deed(
            action="forget",
            request=request,
            before=before,
            after=after,
            run={**stored, "config": {**config, "method": report.method or "none: its rows were covered before"}},
            output=folder / "model" if last else None,
            measured={"probability": Value(value=report.knowledge["probability"], n=asked)},
        )
        before = after
