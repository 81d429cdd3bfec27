"""The reader's own file: imported papers, stars, reading list and notes in one SQLite database.

The file is in WAL mode: readers never wait, one writer works at a time, and a killed process loses the transaction it
was in and nothing else. Its schema is a list of migrations, counted by SQLite's `user_version`; other modules add
tables of their own by `Shelf.extend`.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple

from letheon.core.errors import InputError
from letheon.core.runs import utc_now
from letheon.core.write_ahead import use_write_ahead_log
from letheon.page.entries import Entry, catalogue_entries, plain_title

Fate = Literal["new", "known", "changed"]
WAIT_SECONDS = 5.0
LONGEST_NOTE = 20_000  # characters

MIGRATIONS = (
    """
    CREATE TABLE revision (number INTEGER NOT NULL);
    INSERT INTO revision VALUES (0);
    CREATE TABLE extensions (name TEXT PRIMARY KEY, version INTEGER NOT NULL);
    CREATE TABLE entries (
        key TEXT PRIMARY KEY, arxiv TEXT NOT NULL, title TEXT NOT NULL, entry TEXT NOT NULL, added TEXT NOT NULL
    );
    CREATE INDEX entries_by_arxiv ON entries (arxiv);
    CREATE INDEX entries_by_title ON entries (title);
    CREATE TABLE marks (
        key TEXT PRIMARY KEY, starred INTEGER NOT NULL DEFAULT 0, later INTEGER NOT NULL DEFAULT 0,
        note TEXT NOT NULL DEFAULT ''
    );
    """,
)


class Added(NamedTuple):
    """The key of each added entry and what happened to it, in the order in which they were given."""

    each: tuple[tuple[str, Fate], ...]

    @property
    def new(self) -> tuple[str, ...]:
        """The keys of entries that were stored."""
        return self._with("new")

    @property
    def known(self) -> tuple[str, ...]:
        """The keys of entries that the catalogue or the shelf had already, with nothing new in them."""
        return self._with("known")

    @property
    def changed(self) -> tuple[str, ...]:
        """The keys of imported entries whose fields were replaced."""
        return self._with("changed")

    def _with(self, fate: Fate) -> tuple[str, ...]:
        return tuple(key for key, one in self.each if one == fate)


@dataclass(frozen=True)
class Mark:
    """What the reader attached to a paper: a star, a place on the reading list, a note."""

    starred: bool = False
    later: bool = False
    note: str = ""


class Shelf:
    """The open file; it may be used by several threads.

    Args:
        path: the file; it and its folder are made if they do not exist.

    Raises:
        InputError: the file is no shelf, or is newer than this version.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = Path(path), threading.RLock()
        self._writer = 0  # the thread whose transaction is open
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()  # those that no thread uses just now
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
            use_write_ahead_log(self._connection, WAIT_SECONDS)
            self._migrate()
        except (sqlite3.DatabaseError, OSError) as error:
            raise InputError(f"{path} cannot be opened as a shelf: {error}", "choose another --shelf") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        return connection

    def _migrate(self) -> None:
        with self.transaction() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > len(MIGRATIONS):
                raise InputError(f"{self.path} was written by a newer version", "upgrade letheon")
            for script in MIGRATIONS[version:]:
                _run(connection, script)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def extend(self, name: str, migrations: Sequence[str]) -> None:
        """Bring another module's tables up to date.

        Args:
            name: the module's name; the shelf counts its migrations under it.
            migrations: SQL scripts, oldest first; a script that has run once is never run again.

        Raises:
            InputError: the file has more migrations of that name than were given.
        """
        with self.transaction() as connection:
            row = connection.execute("SELECT version FROM extensions WHERE name = ?", (name,)).fetchone()
            version = row["version"] if row else 0
            if version > len(migrations):
                raise InputError(f"{self.path} was written by a newer version", "upgrade letheon")
            for script in migrations[version:]:
                _run(connection, script)
            connection.execute("INSERT OR REPLACE INTO extensions VALUES (?, ?)", (name, len(migrations)))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a write transaction; an exception rolls it back."""
        with self._lock:
            nested = self._connection.in_transaction
            if nested:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._writer = threading.get_ident()
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            finally:
                self._writer = 0

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """The rows that a SELECT returns; it waits for no writer, and inside a transaction it sees what that wrote."""
        if self._writer == threading.get_ident():
            return self._connection.execute(query, tuple(values)).fetchall()
        try:
            connection = self._readers.get_nowait()
        except Empty:
            connection = self._connect()
            connection.execute("PRAGMA query_only = 1")
        try:
            return connection.execute(query, tuple(values)).fetchall()
        finally:
            self._readers.put(connection)

    def entries(self) -> list[Entry]:
        """Every paper: those of the catalogue by number, then the imported ones in the order of their import."""
        stored = self.rows("SELECT entry FROM entries ORDER BY rowid")
        return [*catalogue_entries(), *(_entry(row["entry"]) for row in stored)]

    def entry(self, key: str) -> Entry | None:
        """The paper with this key, or None."""
        ours = next((entry for entry in catalogue_entries() if entry.key == key), None)
        stored = [] if ours else self.rows("SELECT entry FROM entries WHERE key = ?", (key,))
        return _entry(stored[0]["entry"]) if stored else ours

    def add(self, entries: Iterable[Entry]) -> Added:
        """Store imported papers; adding the same papers again changes nothing.

        A paper is known by its arXiv identifier, else by the letters of its title where the identifiers do not
        contradict. A paper of the catalogue stays as
        the catalogue has it. A key that another paper has is given a number.
        """
        each: list[tuple[str, Fate]] = []
        ours = {name: entry for entry in catalogue_entries() for name in _names(entry)}
        taken = {entry.key for entry in catalogue_entries()}
        with self.transaction() as connection:
            taken |= {row["key"] for row in self.rows("SELECT key FROM entries")}
            for entry in entries:
                named = (ours[name] for name in _names(entry) if name in ours)
                catalogued = next((one for one in named if not _contradict(one, entry)), None)
                stored = None if catalogued else self._stored(entry)
                if catalogued:
                    each.append((catalogued.key, "known"))
                elif stored is None:
                    placed = Entry(**{**asdict(entry), "key": _free(entry.key, taken)})
                    taken.add(placed.key)
                    self._write(connection, placed)
                    each.append((placed.key, "new"))
                else:
                    merged = _merged(stored, entry)
                    each.append((stored.key, "known" if merged == stored else "changed"))
                    if merged != stored:
                        self._write(connection, merged)
            if any(fate != "known" for _, fate in each):
                connection.execute("UPDATE revision SET number = number + 1")
        return Added(tuple(each))

    def _stored(self, entry: Entry) -> Entry | None:
        by_id = self.rows("SELECT entry FROM entries WHERE arxiv = ?", (entry.arxiv,)) if entry.arxiv else []
        rows = by_id or self.rows("SELECT entry FROM entries WHERE title = ?", (plain_title(entry.title),))
        same = (one for one in map(_entry, (row["entry"] for row in rows)) if not _contradict(one, entry))
        return next(same, None)

    def _write(self, connection: sqlite3.Connection, entry: Entry) -> None:
        text = json.dumps(asdict(entry), ensure_ascii=False)
        connection.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "arxiv = excluded.arxiv, title = excluded.title, entry = excluded.entry",
            (entry.key, entry.arxiv, plain_title(entry.title), text, utc_now()),
        )

    def revision(self) -> int:
        """A number that grows whenever a process adds or changes papers."""
        return int(self.rows("SELECT number FROM revision")[0][0])

    def marks(self) -> dict[str, Mark]:
        """Stars, reading list and notes by the paper's key."""
        return {
            row["key"]: Mark(bool(row["starred"]), bool(row["later"]), row["note"])
            for row in self.rows("SELECT * FROM marks")
        }

    def star(self, key: str, on: bool) -> None:
        """Give a paper a star, or take it away."""
        self._mark(key, "starred", int(on))

    def list_later(self, key: str, on: bool) -> None:
        """Put a paper on the reading list, or take it off."""
        self._mark(key, "later", int(on))

    def note(self, key: str, text: str) -> None:
        """Write the note on a paper; an empty text deletes it.

        Raises:
            InputError: the note is too long.
        """
        if len(text) > LONGEST_NOTE:
            raise InputError(f"the note has {len(text):,} characters", f"shorten it to {LONGEST_NOTE:,}")
        self._mark(key, "note", text)

    def _mark(self, key: str, column: str, value: int | str) -> None:
        with self.transaction() as connection:
            connection.execute(
                f"INSERT INTO marks (key, {column}) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET "
                f"{column} = excluded.{column}",
                (key, value),
            )

    def close(self) -> None:
        """Close the file."""
        while not self._readers.empty():
            self._readers.get().close()
        self._connection.close()


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run a script's statements inside the open transaction, which `executescript` would end."""
    statement = ""
    for piece in re.split(r"(?<=;)", script):
        statement += piece
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(statement)


def _free(key: str, taken: set[str]) -> str:
    """The key itself, or the first of `key-2`, `key-3`, ... that no paper has."""
    return next(name for n in range(1, len(taken) + 2) if (name := key if n == 1 else f"{key}-{n}") not in taken)


def _contradict(one: Entry, other: Entry) -> bool:
    return bool(one.arxiv and other.arxiv) and one.arxiv != other.arxiv


def _names(entry: Entry) -> list[str]:
    return [name for name in (entry.arxiv, plain_title(entry.title)) if name]


def _merged(stored: Entry, entry: Entry) -> Entry:
    """The stored entry with the new one's values; what the new one does not know stays, and so do key and source."""
    unknown = asdict(Entry("", ""))
    given = {name: value for name, value in asdict(entry).items() if value != unknown[name]}
    if plain_title(entry.title) == plain_title(stored.title):
        del given["title"]
    return Entry(**{**asdict(stored), **given, "key": stored.key, "source": stored.source})


def _entry(text: str) -> Entry:
    values = json.loads(text)
    return Entry(**{**values, "authors": tuple(values["authors"])})
