"""The file of a memory: one SQLite database with texts, vectors and a word index.

Writes are transactions in WAL mode: a killed process loses the transaction it was in and nothing else, one process
writes at a time, and readers never wait. Vectors are searched exactly, as one matrix product over all of them.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letheon.core.errors import InputError, LetheonError

FORMAT = 1  # the number of the schema
WAIT_SECONDS = 5.0
LONGEST = 1_000_000  # characters per text

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


@dataclass(frozen=True)
class Entry:
    """One memory.

    Attributes:
        text: the words, as they were said or written.
        role: who said it: `user`, `assistant`, or a speaker's name.
        kind: `turn`, `note` (asked to be remembered), or what was derived: `summary`, `belief`.
        session: the conversation it belongs to.
        subject: the person or thing that it is about, by which it can be erased.
        created: seconds since 1970.
        details: further values, JSON.
        sources: ids of the memories that it was derived from; it is erased with any of them.
        id: its number in the file; 0 before it is stored.
    """

    text: str
    role: str = "user"
    kind: str = "turn"
    session: str = ""
    subject: str | None = None
    created: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    sources: tuple[int, ...] = ()
    id: int = 0


class Store:
    """An open memory file.

    Args:
        path: the file; it is made if it does not exist.
        embedder: the name of the embedder whose vectors the file holds; another one than the file's is refused.
        width: width of the vectors.

    Raises:
        InputError: the file is no memory, is torn, is newer than this version, or holds another embedder's vectors.
    """

    def __init__(self, path: Path, embedder: str, width: int) -> None:
        self.path, self.width = Path(path), width
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise InputError(f"{path} cannot be a memory file", "give a file in a folder that exists")
        self._matrix: tuple[tuple[int, int], NDArray[np.int64], NDArray[np.float32]] | None = None
        try:
            self.connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
            self._open(embedder)
        except sqlite3.DatabaseError as error:
            problem = f"{path} cannot be used as a memory file: {error}"
            raise InputError(problem, "give a file that `letheon memory` or `letheon chat` made") from None

    def _open(self, embedder: str) -> None:
        tables = {name for (name,) in self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "about" not in tables:
            raise InputError(f"{self.path} is a database of something else", "choose another file")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA secure_delete = ON")
        if not tables:
            with self.writing():
                for statement in filter(str.strip, SCHEMA.split(";\n")):
                    self.connection.execute(statement)
                facts = {"format": str(FORMAT), "embedder": embedder, "width": str(self.width)}
                self.connection.executemany("INSERT INTO about VALUES (?, ?)", facts.items())
        about = self.about()
        if int(about.get("format", "0")) > FORMAT:
            raise InputError(
                f"{self.path} has format {about['format']}, this version reads up to {FORMAT}", "update letheon"
            )
        if (about["embedder"], int(about["width"])) != (embedder, self.width):
            raise InputError(
                f"{self.path} holds vectors of {about['embedder']!r} (width {about['width']}), not of {embedder!r}",
                f"open it with --embedder {about['embedder']}, or run `letheon memory reindex`",
            )

    @staticmethod
    def facts(path: Path) -> dict[str, str]:
        """Read a file's format, embedder and width without opening it as a store."""
        if not Path(path).is_file():
            raise InputError(f"{path} does not exist", "check the path")
        connection = sqlite3.connect(f"file:{Path(path).absolute()}?mode=ro", uri=True)
        try:
            return dict(connection.execute("SELECT name, value FROM about"))
        except sqlite3.DatabaseError:
            raise InputError(f"{path} is no memory file", "give a file that `letheon memory` made") from None
        finally:
            connection.close()

    def about(self) -> dict[str, str]:
        """Return the file's format, embedder and width."""
        return dict(self.connection.execute("SELECT name, value FROM about"))

    def close(self) -> None:
        """Close the file; its write-ahead log is folded in."""
        self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold a transaction while the block runs; an exception takes everything back.

        Raises:
            LetheonError: another process has been writing for five seconds, or the disk is full.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise LetheonError(
                f"{self.path} could not be written: {error}",
                "close other programs that write to it",
            ) from None

    def add(self, entries: Sequence[Entry], vectors: NDArray[np.float32]) -> list[int]:
        """Store memories with their vectors [entries, width] in one transaction and return their ids.

        Raises:
            InputError: a text that is empty or too long.
        """
        for entry in entries:
            if not entry.text.strip() or len(entry.text) > LONGEST:
                raise InputError(
                    f"a memory of {len(entry.text)} characters", f"a text has 1 to {LONGEST} characters: split it"
                )
        ids = []
        with self.writing() as connection:
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
                connection.executemany("INSERT INTO sources VALUES (?, ?)", [(number, i) for i in entry.sources])
                ids.append(number)
        return ids

    def entries(
        self, ids: Iterable[int] | None = None, *, subject: str | None = None, session: str | None = None
    ) -> list[Entry]:
        """Return memories in the order of their ids: those with the ids, of a subject or session, or all."""
        wanted, given = [], []
        for column, value in (("subject", subject), ("session", session)):
            if value is not None:
                wanted.append(f"{column} = ? COLLATE NOCASE")
                given.append(value)
        if ids is not None:
            wanted.append("id IN (SELECT value FROM json_each(?))")
            given.append(json.dumps([int(i) for i in ids]))
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        columns = "id, created, session, role, kind, subject, text, details"
        rows = self.connection.execute(f"SELECT {columns} FROM memories {where} ORDER BY id", given).fetchall()
        sources: dict[int, list[int]] = {}
        for derived, source in self.connection.execute("SELECT derived, source FROM sources ORDER BY source"):
            sources.setdefault(derived, []).append(source)
        return [
            Entry(text, role, kind, session_, subject_, created, json.loads(details), tuple(sources.get(i, ())), i)
            for i, created, session_, role, kind, subject_, text, details in rows
        ]

    def vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return all ids [n] and unit vectors [n, width]; they are read anew after any process has written."""
        version = self.connection.execute("PRAGMA data_version").fetchone()[0]
        state = (version, self.connection.total_changes)
        if self._matrix is None or self._matrix[0] != state:
            rows = self.connection.execute("SELECT id, vector FROM memories ORDER BY id").fetchall()
            ids = np.array([i for i, _ in rows], dtype=np.int64)
            matrix = np.frombuffer(b"".join(vector for _, vector in rows), dtype="<f4").reshape(len(rows), self.width)
            self._matrix = (state, ids, matrix)
        return self._matrix[1], self._matrix[2]

    def nearest(self, query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """Return the k memories whose vectors have the largest cosine with a unit query [width], best first."""
        ids, matrix = self.vectors()
        if not len(ids):
            return []
        scores = matrix @ query
        k = min(k, len(ids))
        top = np.argpartition(-scores, k - 1)[:k]
        top = top[np.lexsort((ids[top], -scores[top]))]
        return [(int(ids[i]), float(scores[i])) for i in top]

    def matching(self, query: str, k: int) -> list[tuple[int, float]]:
        """Return the k memories with the best BM25 score for any word of a query, best first; scores are positive."""
        terms = [f'"{word}"' for word in re.findall(r"\w+", query)]
        if not terms:
            return []
        found = self.connection.execute(
            "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ? ORDER BY bm25(words), rowid LIMIT ?",
            (" OR ".join(terms), k),
        )
        return [(int(i), float(score)) for i, score in found]

    def replace_vectors(self, embedder: str, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Store vectors of another embedder for all memories, in one transaction."""
        with self.writing() as connection:
            pairs = [(np.ascontiguousarray(v, dtype="<f4").tobytes(), i) for i, v in zip(ids, vectors, strict=True)]
            connection.executemany("UPDATE memories SET vector = ? WHERE id = ?", pairs)
            self.width = vectors.shape[1]
            facts = [("embedder", embedder), ("width", str(self.width))]
            connection.executemany("UPDATE about SET value = ?2 WHERE name = ?1", facts)

    def __len__(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM memories").fetchone()[0])
