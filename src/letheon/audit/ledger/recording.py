"""Writing what was done: the beginning of a deletion, its outcome, an audit, the closing of a case.

A deletion has two entries, one before anything is changed and one afterwards, so that a run that was killed between
them leaves its mark. The outcome's entry and `audit.json` are written in one transaction.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from letheon.audit.ledger.canonical import LARGEST_INTEGER
from letheon.audit.ledger.cases import Case, cases, date_of
from letheon.audit.ledger.commitments import commitment
from letheon.audit.ledger.entry import Action, AuditRef, Commitments, Entry, Erased, ModelRef
from letheon.audit.ledger.ledger_action import Deed, counts, described, entered, measured, output_of, settings_of
from letheon.audit.ledger.store import Ledger
from letheon.audit.record.record import Audit
from letheon.core.atomic import plain, sha256_of
from letheon.core.errors import InputError, LetheonError, nearest
from letheon.forget.request import SUBSETS, Request

# Texts shorter than this are words that may stand anywhere; a subject, whom they may name, counts at any length.
SHORTEST = 4


def begin(ledger: Ledger, request: Request, before: ModelRef, method: str, settings: dict[str, Any]) -> Entry:
    """Record that a deletion begins, before anything is changed.

    Raises:
        InputError: the request's id or reason holds what its rows say; an entry can never be removed.
    """
    refuse_personal_data(request, {"model": before.name})
    with _Committing(ledger, request) as committing, ledger.writing() as writing:
        return writing.add(
            "begin",
            **_case(request, committing.commitments()),
            before=before,
            method=method,
            settings=exact(settings),
        )


def finish(deed: Deed, ledger: Ledger | None, out: Path) -> Audit | None:
    """Write the record and report of a deed to `out`, and its entry: both, or an error and no entry.

    A record whose entry could not be written is kept, and says so.

    Returns:
        The record with all parts that are known; None where there was no audit.
    """
    from letheon.audit.run import write

    output = output_of(deed.output)
    known = described(deed.record, deed, output) if deed.record is not None else None
    if ledger is None:
        if known is not None:
            write(known, out)
        return known
    try:
        refuse_personal_data(deed.request, {"folder of the model": deed.after.name})
        with _Committing(ledger, deed.request) as committing, ledger.writing() as writing:
            commitments = committing.commitments()
            full = entered(known, deed, ledger, writing, commitments) if known is not None else None
            if full is not None:
                write(full, out)
            writing.add(
                deed.action,
                **_case(deed.request, commitments if committing.new else None),
                before=deed.before,
                after=deed.after,
                method=deed.run.get("config", {}).get("method"),
                settings=exact(settings_of(deed.run)) or None,
                measured=measured(full) if full else deed.measured or None,
                audit=_audit(full, out) if full else None,
                output=output,
            )
        return full
    except BaseException as error:
        if known is not None:  # an audit takes minutes: it is kept, and names no entry
            why = getattr(error, "problem", type(error).__name__)
            known.absent["chain"] = f"the entry could not be written: {why}"
            with suppress(LetheonError):
                write(known, out)
        raise


def record_erasure(ledger: Ledger, request: Request, file: str, erased: Erased | None, committed: bool) -> Entry:
    """Record that an erasure from a memory begins, or its outcome.

    Args:
        erased: the outcome; None where it begins.
        committed: commitments of the rows under the request's key are recorded; else the counts of `erased` alone.

    Raises:
        InputError: the file's name or the request's id holds what a memory said; an entry can never be removed.
    """
    refuse_personal_data(request, {"file": file})
    action: Action = "begin" if erased is None else "erase"
    if not committed:
        return ledger.append(action, request=request.id, received=request.received, erased=erased)
    with _Committing(ledger, request) as committing, ledger.writing() as writing:
        commitments = committing.commitments()
        return writing.add(action, **_case(request, commitments if committing.new else None), erased=erased)


def close(ledger: Ledger, request: str) -> Entry:
    """Close a case: destroy its keys, so that its commitments say nothing any more, and record it.

    The keys go first: a process killed between the two leaves a case that can be closed again, never an entry that
    speaks of a key destroyed which is still there.

    Raises:
        InputError: there is no such request, or it is closed.
    """
    with ledger.writing() as writing:
        case = find_case(ledger, request)
        if case.state == "closed":
            raise InputError(f"request {request} is closed", "nothing is left to do")
        destroyed = [ledger.keys.destroy(commitments.key) for commitments in case.commitments]
        return writing.add("close", request=request, key_destroyed=any(destroyed))


def find_case(ledger: Ledger, request: str) -> Case:
    """The case of a request.

    Raises:
        InputError: there is none.
    """
    found = cases(ledger.entries())
    if request not in found:
        raise InputError(f"the ledger has no request {request!r}", nearest(request, list(found)))
    return found[request]


def refuse_personal_data(request: Request, texts: dict[str, str]) -> None:
    """Refuse texts for the ledger, the request's id, reason and dates among them, in which a row's own words occur.

    These are its subject and, of `SHORTEST` and more characters, its prompt, answer and value, as whole words whatever
    the case. A time that is one is no text.

    Raises:
        InputError: names the text and the row.
    """
    case = {name: getattr(request, name) or "" for name in ("id", "reason", "received", "due")}
    texts = {name: text for name, text in case.items() if name in ("id", "reason") or not date_of(text)} | texts
    for row in request.forget:
        long = [words for words in (row.prompt, row.answer, row.value) if words and len(words.strip()) >= SHORTEST]
        for words in filter(None, (row.subject, *long)):
            for name, text in texts.items():
                if f" {_words(words)} " in f" {_words(text)} " and _words(words):
                    raise InputError(
                        f"the {name} holds a text of forget row {row.id}; the ledger keeps it for ever",
                        f"choose a {name} without personal data, such as a case number",
                    )


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def exact(value: Any) -> Any:
    """Settings as JSON that every reader reads alike: integers beyond 2^53 become text."""
    if isinstance(value, dict):
        return {name: exact(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in value]
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return str(value)
    return plain(value)


# Commitments ------------------------------------------------------------------------------------------------------


class _Committing:
    """The commitments of a request's rows: those that its living key has made, else new ones under a new key.

    A new key is destroyed again when its entry is not written.
    """

    def __init__(self, ledger: Ledger, request: Request) -> None:
        self.ledger, self.request = ledger, request
        self.new = ""

    def __enter__(self) -> _Committing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.new:
            self.ledger.keys.destroy(self.new)

    def commitments(self) -> Commitments:
        """To be called inside the transaction that writes them."""
        case = cases(self.ledger.entries()).get(self.request.id)
        for made in reversed(case.commitments if case else []):
            key = self.ledger.keys.get(made.key)
            if key is not None and made.rows == self._rows(key):
                return made
        self.new, key = self.ledger.keys.create()
        return Commitments(key=self.new, rows=self._rows(key))

    def _rows(self, key: bytes) -> dict[Any, list[str]]:
        sets = {name: getattr(self.request, name) for name in SUBSETS}
        return {name: [commitment(key, row) for row in rows] for name, rows in sets.items() if rows}


def _case(request: Request, commitments: Commitments | None) -> dict[str, Any]:
    """What every entry about a request says of it."""
    return {
        "request": request.id,
        "reason": request.reason or None,
        "received": request.received or None,
        "due": request.due,
        "counts": counts(request),
        "commitments": commitments,
    }


def _audit(record: Audit, out: Path) -> AuditRef:
    return AuditRef(
        sha256=sha256_of(out / "audit.json"),
        verdict=record.verdict.outcome,
        profile=record.profile.name,
        profile_sha256=record.profile.sha256,
    )
