"""The file of a memory: one SQLite database with texts, vectors and a word index.

Writes are transactions in WAL mode: a killed process loses the transaction it was in and nothing else, one process
writes at a time, and readers never wait. An erasure that was killed between its deletion and the rebuilding of the file
is completed when the file is opened next. Vectors are searched exactly, as one matrix product over all of them.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letheon.core.errors import InputError, LetheonError
from letheon.core.write_ahead import use_write_ahead_log
from letheon.recall.entries import Entry, problem_of
from letheon.recall.table import Table, ranked

FORMAT = 1  # the number of the schema
UNFINISHED = "erasure"  # in `about` while rows are deleted and the file is not rebuilt yet: whose erasure it is
OWED = "erasure of case "  # in `about`, then the case of a ledger: completed by another process than began it
REINDEXED = "reindexed"  # in `about`: how often all vectors were replaced
AGAIN = "INSERT INTO about VALUES (?, '1') ON CONFLICT (name) DO UPDATE SET value = value + 1"
WAIT_SECONDS = 5.0
PAUSE_SECONDS = 0.01  # between two looks whether an erasure is over
REMEDY = "give a file that `letheon memory` or `letheon chat` made; if it is damaged, restore a copy"

SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE memories (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created REAL NOT NULL, session TEXT NOT NULL, role TEXT NOT NULL,
    kind TEXT NOT NULL, subject TEXT, text TEXT NOT NULL, vector BLOB NOT NULL, details TEXT NOT NULL
);
CREATE INDEX memories_by_subject ON memories (subject);
CREATE TABLE sources (derived INTEGER NOT NULL, source INTEGER NOT NULL, PRIMARY KEY (derived, source)) WITHOUT ROWID;
CREATE INDEX sources_by_source ON sources (source);
CREATE VIRTUAL TABLE words USING fts5 (
    text, content = 'memories', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
"""


class SourceErased(InputError):
    """A derived memory whose source was erased before it could be stored."""


class Store:
    """An open memory file.

    Args:
        path: the file; it is made if it does not exist.
        embedder: the name of the embedder whose vectors the file holds; another one than the file's is refused.
        width: width of the vectors.

    Raises:
        InputError: the file is no memory, is torn, is newer than this version, or holds another embedder's vectors.
    """

    _left_unfinished = False  # the killed erasure that this connection could not complete; it waits for it once

    def __init__(self, path: Path, embedder: str, width: int) -> None:
        self.path, self.embedder, self.width = Path(path), embedder, width
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise InputError(f"{path} cannot be a memory file", "give a file in a folder that exists")
        self._table, self._read_at, self._reindexed = Table(width), (-1, -1), ""
        try:
            shared: dict[str, Any] = {"isolation_level": None, "check_same_thread": False}  # threads take turns
            self.connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, **shared)
            self._open()
        except sqlite3.DatabaseError as error:
            problem = f"{path} cannot be used as a memory file: {error}"
            raise InputError(problem, REMEDY) from None

    def _open(self) -> None:
        tables = {name for (name,) in self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "about" not in tables:
            raise InputError(f"{self.path} is a database of something else", "choose another file")
        use_write_ahead_log(self.connection, WAIT_SECONDS)
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA secure_delete = ON")
        self.connection.execute("PRAGMA temp_store = MEMORY")  # sorted and vacuumed rows leave no temporary files
        if not tables:
            with self.writing(during_erasure=True):  # there is no table yet
                for statement in filter(str.strip, SCHEMA.split(";\n")):
                    self.connection.execute(statement)
                facts = {"format": str(FORMAT), "embedder": self.embedder, "width": str(self.width)}
                self.connection.executemany("INSERT INTO about VALUES (?, ?)", facts.items())
        (state,) = self.connection.execute("PRAGMA quick_check('memories')").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        about = self.about()
        if int(about.get("format", "0")) > FORMAT:
            problem = f"{self.path} has format {about['format']}, this version reads up to {FORMAT}"
            raise InputError(problem, "update letheon")
        self._check_embedder(f"open it with --embedder {about['embedder']}, or run `letheon memory reindex`")
        if UNFINISHED in about:
            self.rebuild()  # if another process has the file open, that one or the next opening does it

    def _check_embedder(self, remedy: str = "it was reindexed meanwhile: close the file and open it again") -> None:
        about = self.about()
        if (about["embedder"], int(about["width"])) != (self.embedder, self.width):
            held = f"{about['embedder']!r} (width {about['width']})"
            raise InputError(f"{self.path} holds vectors of {held}, not of {self.embedder!r}", remedy)

    @staticmethod
    def facts(path: Path) -> dict[str, str]:
        """Read a file's format, embedder and width without opening it as a store."""
        if not Path(path).is_file():
            raise InputError(f"{path} does not exist", "check the path")
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
        try:
            facts = dict(connection.execute("SELECT name, value FROM about"))
            if not {"format", "embedder", "width"} <= set(facts):
                raise sqlite3.DatabaseError
            return facts
        except sqlite3.DatabaseError:
            raise InputError(f"{path} is no memory file, or it is damaged", REMEDY) from None
        finally:
            connection.close()

    def about(self) -> dict[str, str]:
        """Return the file's format, embedder and width."""
        return dict(self.connection.execute("SELECT name, value FROM about"))

    def close(self) -> None:
        """Close the file; its write-ahead log is folded in."""
        self.connection.close()

    @contextmanager
    def writing(self, during_erasure: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold a transaction while the block runs; an exception takes everything back.

        Args:
            during_erasure: does not wait until an erasure has rebuilt the file; else what is written would stand in
                the file that its proof reads. An erasure that was killed is completed after five seconds; where it
                cannot be, later writes do not wait for it again.

        Raises:
            LetheonError: another process has been writing for five seconds, or the disk is full.
        """
        try:
            self._begin(during_erasure)
            try:
                yield self.connection
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            problem = f"{self.path} could not be written: {error}"
            raise LetheonError(problem, "close other programs that write to it") from None

    def _begin(self, during_erasure: bool) -> None:
        ends = time.monotonic() + WAIT_SECONDS
        self.connection.execute("BEGIN IMMEDIATE")
        if during_erasure:
            return
        while UNFINISHED in self.about():
            if self._left_unfinished:
                return
            self.connection.execute("ROLLBACK")
            if time.monotonic() > ends:
                self._left_unfinished = not self.rebuild()
            time.sleep(PAUSE_SECONDS)
            self.connection.execute("BEGIN IMMEDIATE")
        self._left_unfinished = False

    def rebuild(self, finish: bool = True) -> bool:
        """Write the file anew without free pages, from the remaining memories, and empty its log.

        Args:
            finish: notes that no erasure is under way any more.

        Returns:
            Whether it was done; another process that has the file open can prevent it.

        Raises:
            LetheonError: the disk is full, or the file is damaged.
        """
        try:
            note = self.about().get(UNFINISHED, "")
            self.connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
            self.connection.execute("VACUUM")
            if not self._empty_log():
                return False
            return self.finish_erasure(note, owed=True) if finish else True
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return False
            problem = f"{self.path} could not be rebuilt: {error}"
            raise LetheonError(problem, "free some space; its rows are intact") from None

    def finish_erasure(self, note: str, owed: bool = False) -> bool:
        """End an erasure, so that others may write, and no other one; return whether the log is empty again.

        Args:
            note: of the erasure, as `about` has it.
            owed: it is completed by another than began it: that a ledger has no entry of its outcome is noted.
        """
        case = json.loads(note)["case"] if note.startswith("{") else ""
        if case and owed:
            self.connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (OWED + case, note))
        self.connection.execute("DELETE FROM about WHERE name = ? AND value = ?", (UNFINISHED, note))
        if case and not owed:
            self.connection.execute("DELETE FROM about WHERE name = ?", (OWED + case,))
        self._table, self._read_at = Table(self.width), (-1, -1)  # it held vectors of the erased
        return self._empty_log()

    def version(self) -> int:
        """Return a number that changes when another connection has written to the file."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def _empty_log(self) -> bool:
        (busy, _, _) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def add(self, entries: Sequence[Entry], vectors: NDArray[np.float32]) -> list[int]:
        """Store memories with their vectors [entries, width] in one transaction and return their ids.

        A source -n stands for the n-th memory of the same call.

        Raises:
            InputError: a text that is empty or too long, or a field of a wrong type; names the number of the memory.
                Or the file holds another embedder's vectors by now.
            SourceErased: a memory from which one of them was derived is not in the file.
        """
        for number, entry in enumerate(entries, start=1):
            if problem := problem_of(entry):
                raise InputError(f"memory {number} of {len(entries)}: {problem[0]}", problem[1])
        ids = []
        with self.writing() as connection:
            self._check_embedder()
            for entry, vector in zip(entries, vectors, strict=True):
                cursor = connection.execute(
                    "INSERT INTO memories (created, session, role, kind, subject, text, vector, details) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        entry.created, entry.session, entry.role, entry.kind, entry.subject, entry.text,
                        np.ascontiguousarray(vector, dtype="<f4").tobytes(), json.dumps(entry.details),
                    ),
                )  # fmt: skip
                number = int(cursor.lastrowid or 0)
                connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, entry.text))
                ids.append(number)
                sources = {i if i > 0 else ids[-i - 1] for i in entry.sources}
                connection.executemany("INSERT INTO sources VALUES (?, ?)", [(number, i) for i in sources])
            orphan = connection.execute(
                "SELECT source FROM sources WHERE derived >= ? AND source NOT IN (SELECT id FROM memories)",
                (min(ids, default=1),),
            ).fetchone()
            if orphan:
                raise SourceErased(f"memory {orphan[0]}, from which one was derived, is erased", "derive it anew")
        return ids

    def entries(
        self,
        ids: Iterable[int] | None = None,
        *,
        subject: str | None = None,
        session: str | None = None,
        kind: str | None = None,
    ) -> list[Entry]:
        """Return memories in the order of their ids: those with the ids, of a subject, session or kind, or all."""
        wanted, given = [], []
        for condition, value in (("subject = ? COLLATE NOCASE", subject), ("session = ?", session), ("kind = ?", kind)):
            if value is not None:
                wanted.append(condition)
                given.append(value)
        if ids is not None:
            wanted.append("id IN (SELECT value FROM json_each(?))")
            given.append(json.dumps([int(i) for i in ids]))
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        columns = "id, created, session, role, kind, subject, text, details"
        rows = self.connection.execute(f"SELECT {columns} FROM memories {where} ORDER BY id", given).fetchall()
        sources: dict[int, list[int]] = {}
        chosen = f"derived IN (SELECT id FROM memories {where})"
        links = f"SELECT derived, source FROM sources WHERE {chosen} ORDER BY source"
        for derived, source in self.connection.execute(links, given):
            sources.setdefault(derived, []).append(source)
        return [
            Entry(text, role, kind, session_, subject_, created, json.loads(details), tuple(sources.get(i, ())), i)
            for i, created, session_, role, kind, subject_, text, details in rows
        ]

    def table(self) -> Table:
        """Return the rows without their texts; what was added by any process is read, all after an erasure.

        Raises:
            InputError: another process has stored another embedder's vectors.
        """
        if self._read_at != (state := (self.version(), self.connection.total_changes)):
            self._check_embedder()
            fresh = self._reindexed != (at := self.about().get(REINDEXED, ""))
            if fresh or not self._table.read(self.connection):
                self._table, self._reindexed = Table(self.width), at
                self._table.read(self.connection)
            self._read_at = state
        return self._table

    def vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return all ids [n] and unit vectors [n, width], as `table` has them."""
        table = self.table()
        return table.ids, table.vectors

    def nearest(self, query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """Return the k memories whose vectors have the largest cosine with a unit query [width], best first."""
        ids, matrix = self.vectors()
        scores = matrix @ query
        top = ranked(scores, np.arange(len(ids)), k)
        return list(zip(ids[top].tolist(), scores[top].tolist(), strict=True))

    def matching(self, query: str, k: int | None = None) -> list[tuple[int, float]]:
        """Return ids and BM25 scores, all above 0, for any word of a query: the k best ones first, or all unsorted."""
        terms = [f'"{word}"' for word in re.findall(r"\w+", query)]
        if not terms:
            return []
        found, given = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", [" OR ".join(terms)]
        if k is not None:  # sorting takes as long as scoring
            found, given = f"{found} ORDER BY bm25(words), rowid LIMIT ?", [*given, str(k)]
        return self.connection.execute(found, given).fetchall()

    def replace_vectors(self, embedder: str, width: int, vectors: Mapping[int, NDArray[np.float32]]) -> bool:
        """Store vectors of another embedder by id for all memories, in one transaction.

        Returns:
            Whether it was done; a memory of the file without a vector prevents it.
        """
        with self.writing() as connection:
            if any(i not in vectors for (i,) in connection.execute("SELECT id FROM memories")):
                return False
            pairs = [(np.ascontiguousarray(vector, dtype="<f4").tobytes(), i) for i, vector in vectors.items()]
            connection.executemany("UPDATE memories SET vector = ? WHERE id = ?", pairs)
            for fact in (("embedder", embedder), ("width", str(width))):
                connection.execute("UPDATE about SET value = ?2 WHERE name = ?1", fact)
            connection.execute(AGAIN, (REINDEXED,))
        self.embedder, self.width = embedder, width
        self._table, self._read_at = Table(width), (-1, -1)
        return True

    def __len__(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM memories").fetchone()[0])
