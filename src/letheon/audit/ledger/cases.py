"""Where each request stands: the entries of the ledger, read from the first to the last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from letheon.audit.ledger.entry import Commitments, Entry
from letheon.audit.record.evidence import Value

# A request is asked again when so many days have passed since its rows were last asked, and at once when a later
# deletion changed the model; ours.
RECHECK_DAYS = 90
# States of a request that was not carried out.
OPEN = ("begun", "stopped")


@dataclass
class Case:
    """One request.

    Attributes:
        entries: numbers of the entries about it.
        state: `begun` (no outcome was written: killed, or at work), `stopped` (it could not go on, or an erasure left
            something), `done`, `audited` (deleted elsewhere), `closed`.
        commitments: all that were made of its rows; the newest last.
        measured: what the model knew of the rows after the deletion.
        looked: when the rows were last asked.
        model: the model that came of the deletion, and of the deletions after it.
        changed_since: whether a later deletion changed the model since.
        returned: what the last re-check said.
    """

    request: str
    entries: list[int] = field(default_factory=list)
    state: str = "begun"
    reason: str = ""
    received: str = ""
    due: str = ""
    verdict: str = ""
    commitments: list[Commitments] = field(default_factory=list)
    measured: dict[str, Value] = field(default_factory=dict)
    looked: str = ""
    model: str = ""
    changed_since: bool = False
    returned: str = ""

    def overdue(self, now: datetime) -> bool:
        """Whether it is past its date and not carried out: no outcome yet, or one that failed."""
        due = date_of(self.due)
        undone = self.state in OPEN or (self.verdict == "fail" and self.state != "closed")
        return undone and due is not None and due < now

    def recheck(self, now: datetime) -> str:
        """When its rows should be asked again: a date, `now`, or nothing where they cannot be."""
        looked = date_of(self.looked)
        if self.state in (*OPEN, "closed") or looked is None:
            return ""
        date = looked + timedelta(days=RECHECK_DAYS)
        return "now" if self.changed_since or date < now else f"{date:%Y-%m-%d}"

    def to_json(self, now: datetime) -> dict[str, Any]:
        """What `letheon ledger list` shows."""
        names = ("request", "state", "reason", "received", "due", "verdict", "returned", "entries")
        shown = {name: getattr(self, name) for name in names}
        return {**shown, "overdue": self.overdue(now), "recheck": self.recheck(now)}


def cases(entries: Iterable[Entry]) -> dict[str, Case]:
    """Every request in the order of its first entry."""
    found: dict[str, Case] = {}
    for entry in entries:
        for asked in entry.asked or []:
            if asked.request in found:
                case = found[asked.request]
                case.entries.append(entry.sequence)
                case.looked, case.changed_since, case.returned = entry.time, False, asked.outcome
        if entry.request is not None:
            _take(found.setdefault(entry.request, Case(entry.request)), entry, found)
    return found


def _take(case: Case, entry: Entry, found: dict[str, Case]) -> None:
    """What an entry about a request changes."""
    case.entries.append(entry.sequence)
    for name in ("reason", "received", "due"):
        setattr(case, name, getattr(entry, name) or getattr(case, name))
    if entry.commitments is not None:
        case.commitments.append(entry.commitments)
    if entry.action == "close":
        case.state = "closed"
    elif entry.action in ("begin", "stop"):
        case.state, case.verdict = {"begin": "begun", "stop": "stopped"}[entry.action], ""
    elif entry.erased is not None:
        case.state = "done" if entry.erased.proven else "stopped"
    elif entry.action in ("forget", "audit"):
        case.state = "done" if entry.action == "forget" or case.state == "done" else "audited"
        case.verdict = entry.audit.verdict if entry.audit else case.verdict
        if entry.measured:
            case.measured, case.looked, case.changed_since = entry.measured, entry.time, False
        if entry.before and entry.after:
            case.model = entry.after.sha256
            for other in found.values():
                if other is not case and other.model == entry.before.sha256:
                    other.changed_since, other.model = True, entry.after.sha256


def date_of(text: str) -> datetime | None:
    """Return a time (UTC where no zone is said; a day lasts to its end); None where it is none."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) <= len("2026-01-31"):
        date += timedelta(days=1)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
