"""The ledger's file: SQLite in a folder of its own, append-only, one transaction an entry.

    LEDGER/ledger.db    the entries: canonical JSON, hash, signature
    LEDGER/keys/        the keys of open requests (`commitments`)

Triggers refuse UPDATE and DELETE; they keep honest programs honest. Evidence is the chain (`chain`).
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from letheon.audit.criteria import first_fault
from letheon.audit.ledger.canonical import canonical
from letheon.audit.ledger.chain import GENESIS, Fault, Head, Line, Verification, check, head_message, is_hash, link
from letheon.audit.ledger.commitments import Keys
from letheon.audit.ledger.entry import Action, Entry
from letheon.audit.ledger.signing import PRIVATE, Signer, Verifier, read_signer
from letheon.core.atomic import unwritable
from letheon.core.errors import InputError, LetheonError
from letheon.core.runs import utc_now
from letheon.core.write_ahead import use_write_ahead_log

FILE = "ledger.db"
# Seconds that a writer waits for another one; an entry takes milliseconds, an audit's files some seconds.
PATIENCE = 60.0
SCHEMA = (
    "CREATE TABLE entries"
    " (sequence INTEGER PRIMARY KEY, entry TEXT NOT NULL, hash TEXT NOT NULL, signature TEXT) STRICT",
    "CREATE TRIGGER in_order BEFORE INSERT ON entries"
    " WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM entries)"
    " BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    "CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
)


def default_folder() -> Path:
    """Where a user's ledger is: `$LETHEON_LEDGER`, else `letheon/ledger` in the user's data folder."""
    if found := os.environ.get("LETHEON_LEDGER"):
        return Path(found)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "letheon" / "ledger"


@dataclass
class Writing:
    """A transaction in which entries are added; they are there once it has ended, all of them or none.

    Attributes:
        sequence, previous: of the entry that comes next, and the hash of the one before it.
    """

    connection: sqlite3.Connection
    actor: str
    signer: Signer | None
    sequence: int
    previous: str

    def add(self, action: Action, **fields: Any) -> Entry:
        """Add an entry; number, time, actor and hash are put to it."""
        entry = _entry(
            sequence=self.sequence,
            time=utc_now(),
            actor=self.actor,
            action=action,
            signed_by=self.signer.id if self.signer else None,
            **fields,
        )
        text = canonical(entry.to_json())
        digest = link(self.previous, text)
        signature = self.signer.sign(head_message(self.sequence, digest)) if self.signer else None
        self.connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?)", (self.sequence, text.decode(), digest, signature)
        )
        self.sequence, self.previous = self.sequence + 1, digest
        return entry


class Ledger:
    """An append-only ledger of deletion requests."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, actor: str, signer: Signer | None) -> None:
        self.folder, self.connection, self.actor, self.signer = folder, connection, actor, signer
        self.keys = Keys(folder / "keys")

    @classmethod
    def open(cls, folder: Path, *, create: bool = False, actor: str = "", key: Path | None = None) -> Ledger:
        """Open a ledger, or make one.

        Args:
            folder: the ledger's own folder.
            create: make it where there is none.
            actor: who writes; default `$LETHEON_ACTOR`, else the name of the user at this machine.
            key: private key that signs each entry's head; default `$LETHEON_LEDGER_KEY`, else entries are unsigned.

        Raises:
            InputError: there is no ledger, the place holds something else, or the key cannot be used.
        """
        refuse_place(folder, create)
        signer = named_signer(key)
        path = folder / FILE
        with _told(path):
            if not path.exists():
                folder.mkdir(parents=True, mode=0o700, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, PRIVATE))
            folder.chmod(0o700)
            path.chmod(PRIVATE)
            ledger = cls(folder, _connect(path), actor or _user(), signer)
            if not ledger._has_entries():
                if not create:
                    raise InputError(f"there is no ledger in {folder}: its file is empty", "restore it from a copy")
                ledger._begin_with_a_first_entry()
        return ledger

    def _begin_with_a_first_entry(self) -> None:
        """Tables and first entry in one transaction, so that a process killed here leaves nothing half-made."""
        with self._transaction():
            if self._has_entries():
                return  # another process was first
            for statement in SCHEMA:
                self.connection.execute(statement)
            Writing(self.connection, self.actor, self.signer, 1, GENESIS).add("create", ledger=uuid.uuid4().hex)

    def _has_entries(self) -> bool:
        found = self.connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'entries'").fetchone()
        return bool(found[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself where the disk is full
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """A transaction: what is done inside it and the entries added in it stand together, or the entries do not.

        Raises:
            LetheonError: the disk is full, another process holds the ledger, or the last entry was changed.
        """
        with _told(self.folder / FILE), self._transaction():
            last = self._lines("ORDER BY sequence DESC LIMIT 2")
            before = last[1].hash if len(last) > 1 else GENESIS
            if not last or not is_hash(before) or link(before, last[0].entry) != last[0].hash:
                raise LetheonError(f"{self.folder}: the last entry was changed or removed", "see letheon ledger verify")
            yield Writing(self.connection, self.actor, self.signer, (last[0].place or 0) + 1, last[0].hash)

    def append(self, action: Action, **fields: Any) -> Entry:
        """Add one entry."""
        with self.writing() as writing:
            return writing.add(action, **fields)

    def lines(self) -> list[Line]:
        """All entries as they are stored."""
        with _told(self.folder / FILE):
            return self._lines("ORDER BY sequence")

    def line(self, sequence: int) -> Line:
        """One entry as it is stored.

        Raises:
            InputError: there is none of this number.
        """
        lines = self.lines()
        for line in lines:
            if line.place == sequence:
                return line
        raise InputError(f"the ledger has no entry {sequence}", f"it has {len(lines)} entries")

    def _lines(self, order: str) -> list[Line]:
        rows = self.connection.execute(f"SELECT sequence, entry, hash, signature FROM entries {order}")
        return [
            Line(_bytes(entry), _ascii(digest), None if signature is None else _ascii(signature), place)
            for place, entry, digest, signature in rows
        ]

    def entries(self) -> list[Entry]:
        """All entries, read.

        Raises:
            LetheonError: an entry cannot be read: it was changed.
        """
        return [read_entry(line, str(self.folder)) for line in self.lines()]

    def head(self) -> Head:
        """The end of the chain, signed where a key is; to be kept elsewhere."""
        lines = self.lines()
        if not lines:
            raise LetheonError(f"{self.folder}: the ledger was emptied", "see letheon ledger verify")
        name = read_entry(lines[0], str(self.folder)).ledger or ""
        size, digest = len(lines), lines[-1].hash
        if self.signer is None:
            return Head(size, digest, name)
        return Head(size, digest, name, self.signer.id, self.signer.sign(head_message(size, digest)))

    def verify(self, head: Head | str | None = None, keys: dict[str, Verifier] | None = None) -> Verification:
        """Verify the chain, and the file that it is kept in."""
        try:
            damage = [str(row[0], "utf-8", "replace") for row in self.connection.execute("PRAGMA integrity_check")]
            found = check(self._lines("ORDER BY sequence"), head, keys)
        except sqlite3.DatabaseError as error:
            return Verification(faults=[Fault(None, f"the file is damaged: {error}")])
        if damage != ["ok"]:
            found.faults.append(Fault(None, f"the file is damaged: {damage[0]}"))
        triggers = self.connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()[0]
        if triggers < len(SCHEMA) - 1:
            found.notes.append("triggers that refuse changes were removed from the file")
        return found

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()


def named_signer(key: Path | None) -> Signer | None:
    """The key that signs: the given file, else `$LETHEON_LEDGER_KEY`, else none."""
    found = key or os.environ.get("LETHEON_LEDGER_KEY")
    return read_signer(Path(found)) if found else None


def refuse_place(folder: Path, create: bool) -> None:
    """Refuse a place where no ledger is or can be made, before any work is done for it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a ledger is a folder", "give the ledger's folder")
    if (folder / FILE).exists():
        return
    if not create:
        raise InputError(
            f"there is no ledger in {folder}", "give --ledger, or make one: letheon forget ... --ledger PATH"
        )
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} holds other things and no ledger", "give a new folder")


def read_entry(line: Line, where: str) -> Entry:
    """An entry from its line."""
    try:
        return Entry.model_validate_json(line.entry)
    except ValidationError as error:
        place = f"{where}, entry {line.place}" if line.place else where
        raise LetheonError(f"{place}: {first_fault(error)}", "see letheon ledger verify") from None


def _entry(**fields: Any) -> Entry:
    try:
        return Entry(**fields)
    except ValidationError as error:
        raise InputError(f"ledger entry, {first_fault(error)}", "shorten or mend it") from None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    connection.text_factory = bytes  # a changed byte may be no UTF-8: it is for `verify` to say so
    use_write_ahead_log(connection, PATIENCE)
    for setting in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _bytes(found: object) -> bytes:
    """A stored text; whoever tampered with the file may have put something else there."""
    return found if isinstance(found, bytes) else b""


def _ascii(found: object) -> str:
    return _bytes(found).decode("ascii", "replace")


def _user() -> str:
    import getpass

    try:
        return os.environ.get("LETHEON_ACTOR") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors in words that say what to do."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
    except sqlite3.Error as error:
        kind = getattr(error, "sqlite_errorname", "") or ""
        if kind == "SQLITE_FULL":
            remedy = "free some space; nothing was written"
            raise LetheonError(f"could not write {path}: the disk is full", remedy) from error
        if kind.startswith("SQLITE_BUSY"):
            remedy = "wait for it and try again; nothing was written"
            raise LetheonError(f"{path}: another process has been writing for {PATIENCE:.0f} s", remedy) from error
        if kind in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            remedy = "restore it from a copy; see letheon ledger verify"
            raise LetheonError(f"{path} is damaged or no ledger: {error}", remedy) from error
        raise LetheonError(f"could not use {path}: {error}", "check that it can be read and written") from error
