"""`letheon ledger`: read, check, export and close the record of deletion requests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from letheon.audit.ledger import exchange, recording, signing
from letheon.audit.ledger.cases import cases
from letheon.audit.ledger.chain import Verification, check
from letheon.audit.ledger.entry import Entry
from letheon.audit.ledger.recheck import plan, recheck
from letheon.audit.ledger.store import Ledger, default_folder, read_entry
from letheon.core.atomic import write_json
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable
from letheon.jobs.options import LedgerAccess, Machine


def opened(access: LedgerAccess) -> closing[Ledger]:
    """Open the ledger in the given folder, or the user's own one, while a block runs."""
    return closing(Ledger.open(access.ledger or default_folder(), key=access.key))


def list_requests(access: LedgerAccess) -> list[dict[str, Any]]:
    """Return the state of every request."""
    now = datetime.now(UTC)
    with opened(access) as ledger:
        return [case.to_json(now) for case in cases(ledger.entries()).values()]


def read_one(access: LedgerAccess, sequence: int) -> dict[str, Any]:
    """Return one entry with its hash and signature."""
    with opened(access) as ledger:
        line = ledger.line(sequence)
        entry = read_entry(line, str(ledger.folder)).to_json()
        return {**entry, "hash": line.hash, "signature": line.signature}


def verify(
    access: LedgerAccess, exported: Path | None, head: str, public_keys: Sequence[Path], audit: Path | None
) -> Verification:
    """Verify a ledger, or an exported file, and find the audit in it where one is given.

    Args:
        head: a head that was stored elsewhere: its hash, or a file of `letheon ledger head`; empty for none.
    """
    keys = {key.id: key for key in map(signing.read_verifier, public_keys)}
    end = exchange.read_head(head) if head else None
    if exported is not None:
        lines = exchange.read_export(exported)
        result = check(lines, end, keys)
    else:
        with opened(access) as ledger:
            result = ledger.verify(end, keys)
            lines = ledger.lines() if result.whole else []
    if audit is not None and result.whole:
        exchange.find_audit(lines, audit, result)
    return result


def read_head(access: LedgerAccess, out: Path | None) -> dict[str, Any]:
    """Return the end of the chain, and write it where a file is given."""
    with opened(access) as ledger:
        end = asdict(ledger.head())
    if out is not None:
        write_json(out, end)
    return end


class Writing:
    """A job whose plan is its work without the writing."""

    def perform(self, write: bool) -> dict[str, Any]:
        """Check and do everything, but write only where `write` says so; return what is or would be written."""
        raise NotImplementedError  # every job says what it does

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be written."""
        return self.perform(write=False)

    def work(self) -> dict[str, Any]:
        """Write, and return what was written."""
        return self.perform(write=True)


@dataclass(frozen=True)
class ExportJob(Writing):
    """The export of all entries, or of a provenance statement about one request."""

    out: Path
    statement: bool = False
    request: str = ""  # the request of the statement; empty exports all entries
    access: LedgerAccess = field(default_factory=LedgerAccess)

    def perform(self, write: bool) -> dict[str, Any]:
        if self.statement != bool(self.request):
            raise InputError(
                "--statement and --request go together", "letheon ledger export FILE --statement --request ID"
            )
        with opened(self.access) as ledger:
            if self.statement:
                made = exchange.statement(ledger, self.request)
                if write:
                    write_json(self.out, made)
                return {"out": str(self.out), "request": self.request, "signed": "signatures" in made}
            size = exchange.export(ledger, self.out) if write else len(ledger.lines())
            return {"out": str(self.out), "entries": size}


@dataclass(frozen=True)
class CloseJob:
    """The closing of a request, which destroys its key."""

    request: str
    access: LedgerAccess = field(default_factory=LedgerAccess)

    def plan(self) -> dict[str, Any]:
        """Return the keys that would be destroyed."""
        with opened(self.access) as ledger:
            keys = [made.key for made in recording.find_case(ledger, self.request).commitments]
        return {"request": self.request, "keys to destroy": keys}

    def work(self) -> dict[str, Any]:
        """Close the request."""
        with opened(self.access) as ledger:
            entry = recording.close(ledger, self.request)
        return {"request": self.request, "entry": entry.sequence, "key_destroyed": entry.key_destroyed}


@dataclass(frozen=True)
class RecheckJob:
    """Earlier requests asked of the newest model."""

    model: str
    requests: Path  # a request.json, or a folder that is searched for request*.json
    sample: int = 0  # the most requests that are asked, drawn by the seed; 0 asks all
    access: LedgerAccess = field(default_factory=LedgerAccess)
    machine: Machine = field(default_factory=Machine)

    def plan(self) -> dict[str, Any]:
        """Return the requests that would be asked, with their numbers of rows, and those that would not."""
        with opened(self.access) as ledger:
            chosen = plan(ledger, self.requests, self.sample, self.machine.seed)
        check_loadable(self.model)
        rows = {request: len(rows) for request, rows in chosen.rows.items()}
        return {"model": self.model, "rows": rows, "not asked": chosen.not_asked}

    def work(self) -> Entry:
        """Ask the model, and return the entry that records the answers."""
        with opened(self.access) as ledger:
            chosen = plan(ledger, self.requests, self.sample, self.machine.seed)
            check_loadable(self.model)
            return recheck(ledger, self.model, chosen, self.machine.device)


@dataclass(frozen=True)
class KeygenJob:
    """A new Ed25519 key pair."""

    path: Path

    def plan(self) -> dict[str, Any]:
        """Return the files that would be written."""
        return {"private": str(self.path), "public": f"{self.path}.pub"}

    def work(self) -> dict[str, Any]:
        """Make the keys and return their files and the key's id."""
        return {**self.plan(), "id": signing.keygen(self.path)}
