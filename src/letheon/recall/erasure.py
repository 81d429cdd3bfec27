"""Erasure: a memory leaves the file with its vector, its words in the index and all that was derived from it.

SQLite marks deleted rows as free and keeps their bytes; here they are overwritten (`secure_delete`, also of the word
index), the file is rebuilt (`VACUUM`), its log is emptied, and the raw bytes are searched for what was erased. The
search sees texts, subjects and vectors. It hardly sees the index, which holds stems of words, and no details of a
memory; a remaining memory with the same words, such as a reply that repeats them, stays and is no remainder. Copies
outside of the file (backups, blocks that a disk has set aside) are beyond its reach.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from letheon.core.errors import InputError, LetheonError
from letheon.recall.store import Entry, Store

MOST_NEEDLES = 4000  # byte strings per proof


@dataclass(frozen=True)
class Erasure:
    """The outcome of an erasure and of the search of the raw files.

    Attributes:
        ids: numbers of the erased memories, derived ones included.
        derived: numbers of those erased because they were derived from others.
        files: the raw files that were searched, with their sizes in bytes.
        needles: number of byte strings that were searched for: runs of four words, long words, subjects, vectors.
        remains: byte strings that were still in a file and in no remaining memory.
    """

    ids: list[int]
    derived: list[int]
    files: dict[str, int]
    needles: int
    remains: list[str]

    @property
    def proven(self) -> bool:
        """Whether none of the searched byte strings was found, but in what other memories say."""
        return not self.remains


def with_derived(store: Store, ids: Sequence[int]) -> list[int]:
    """Return the ids with those of all memories that were derived from them, directly or through others."""
    found = store.connection.execute(
        "WITH RECURSIVE gone (id) AS (SELECT value FROM json_each(?) UNION "
        "SELECT derived FROM sources JOIN gone ON source = gone.id) SELECT id FROM gone ORDER BY id",
        (json.dumps(list(ids)),),
    )
    return [int(i) for (i,) in found]


def erase(store: Store, ids: Sequence[int]) -> Erasure:
    """Erase memories and what was derived from them, rebuild the file, and search its bytes for them.

    Raises:
        InputError: an id that is not in the file.
        LetheonError: the rows are deleted, but another process has the file open, so that it cannot be rebuilt.
    """
    known = {entry.id for entry in store.entries(ids)}
    if missing := sorted(set(ids) - known):
        raise InputError(f"no memory has the number {missing[0]}", "see `letheon memory list`")
    every = with_derived(store, ids)
    gone, chosen = store.entries(every), "id IN (SELECT value FROM json_each(?))"
    as_json = json.dumps(every)
    vectors = [bytes(v) for (v,) in store.connection.execute(f"SELECT vector FROM memories WHERE {chosen}", (as_json,))]
    with store.writing() as connection:
        connection.executemany(
            "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", [(entry.id, entry.text) for entry in gone]
        )
        connection.execute(f"DELETE FROM memories WHERE {chosen}", (as_json,))
        connection.execute("DELETE FROM sources WHERE derived IN (SELECT value FROM json_each(?))", (as_json,))
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")  # merges segments without the old words
    _rebuild(store)
    return _prove(store, every, sorted(set(every) - set(ids)), _needles(gone), vectors)


def _prove(store: Store, ids: list[int], derived: list[int], needles: list[str], vectors: list[bytes]) -> Erasure:
    """Search the raw files; what a remaining memory shares is in them by right and is no remainder."""
    files = {path.name: path.read_bytes() for path in raw_files(store.path)}
    left = [text for text in needles if any(text.encode() in content for content in files.values())]
    if left:
        rest = "\n".join(f"{e.text}\n{e.subject}\n{e.role}\n{e.session}\n{e.details}" for e in store.entries()).lower()
        left = [text for text in left if text.lower() not in rest]
    kept = {bytes(vector) for (vector,) in store.connection.execute("SELECT vector FROM memories")}
    remains = left + [
        f"vector {number}"
        for number, vector in enumerate(vectors)
        if vector not in kept and any(vector in content for content in files.values())
    ]
    sizes = {name: len(content) for name, content in files.items()}
    return Erasure(ids, derived, sizes, len(needles) + len(vectors), remains)


def _rebuild(store: Store) -> None:
    """Write the file anew without free pages and empty its log."""
    store.connection.execute("VACUUM")
    busy, _, _ = store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise LetheonError(
            f"the rows are deleted, but {store.path} is open in another process: their bytes may still be in its log",
            "close the other process, then erase any other memory: that rebuilds the file",
        )


def raw_files(path: Path) -> list[Path]:
    """Return the files that can hold bytes of a memory: the database, its log, its shared index, a journal."""
    places = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
    return [place for place in places if place.exists()]


def _needles(gone: Sequence[Entry]) -> list[str]:
    """Return what must not be left: runs of four words, long words as written and in lower case, and subjects.

    Long texts are stored in several pages, so runs are searched for and not whole texts. At most `MOST_NEEDLES`, evenly
    spaced, are taken.
    """
    needles: dict[str, None] = {}
    for entry in gone:
        words = list(re.finditer(r"\w+", entry.text))
        runs = [entry.text[a.start() : b.end()] for a, b in zip(words, words[3:], strict=False)] or [entry.text]
        long = [word.group() for word in words if len(word.group()) >= 5]
        needles |= dict.fromkeys([*runs, *long, *(word.lower() for word in long), *filter(None, [entry.subject])])
    return list(needles)[:: max(1, -(-len(needles) // MOST_NEEDLES))]
