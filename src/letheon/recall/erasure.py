"""Erasure: a memory leaves the file with its vector, its words in the index and all that was derived from it.

SQLite marks deleted rows as free and keeps their bytes; here they are overwritten (`secure_delete`), the word index and
the file are built anew from the remaining memories, and the log is emptied. The proof compares the file with a
reference: a database in memory that is built from the remaining memories alone. Bytes of the erased memories (texts,
subjects, names of speakers, details, vectors) may not occur more often in the raw files than in the reference, and the
index may list no stem of their words in a place that the reference's index does not list. So "Ann" is seen beside a
remaining "Annual", and what a remaining memory says as well is no remainder. Copies outside of the file (backups,
blocks that a disk has set aside) are beyond its reach.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.errors import InputError, LetheonError
from letheon.recall.entries import Entry
from letheon.recall.store import OWED, SCHEMA, UNFINISHED, Store

MOST_NEEDLES = 4000  # byte strings per proof
SHORTEST = 3  # characters of a word that is searched for in the raw bytes; the index is asked for all words
ATTEMPTS = 5  # to read the files while no other process writes
FIELD = "lifelong"  # of a memory's details, where `lifelong.nodes` stores numbers and levels
SIMILAR = 0.6  # cosine from which a remaining memory may say the same in other words
ROLES = ("user", "assistant", "system", "tool")  # names that say nothing of a person


@dataclass(frozen=True)
class Erasure:
    """The outcome of an erasure and of the search of the raw files.

    Attributes:
        ids: numbers of the erased memories, derived ones included.
        derived: numbers of those erased because they were derived from others.
        files: the raw files that were searched, with their sizes in bytes.
        needles: number of byte strings that were searched for: runs of four words, words, subjects, details, vectors.
        stems: number of word stems that the index was asked for.
        remains: what is in a file or the index more often than the remaining memories account for.
        similar: numbers of remaining memories whose vectors are near an erased one; they may say the same otherwise.
    """

    ids: list[int]
    derived: list[int]
    files: dict[str, int]
    needles: int
    stems: int
    remains: list[str]
    similar: list[int]

    @property
    def proven(self) -> bool:
        """Whether the files and the index hold nothing but what the remaining memories account for."""
        return not self.remains


def with_derived(store: Store, ids: Sequence[int]) -> list[int]:
    """Return the ids with those of all memories that were derived from them, directly or through others."""
    rows = store.connection.execute(
        "WITH RECURSIVE gone (id) AS (SELECT value FROM json_each(?) UNION "
        "SELECT derived FROM sources JOIN gone ON source = gone.id) SELECT id FROM gone ORDER BY id",
        (json.dumps(list(ids)),),
    )
    return [int(i) for (i,) in rows]


def erase(store: Store, ids: Sequence[int], subject: str | None = None, case: str = "") -> Erasure:
    """Erase memories and what was derived from them, rebuild the file, and search its bytes for them.

    Args:
        subject: is looked for by itself as well, in every field of the remaining memories and in the raw files.
        case: of a ledger that gets an entry of the outcome; see `owed`. It must not say what the memories say.

    Raises:
        InputError: an id that is not in the file.
        LetheonError: the rows are deleted, but another process has the file open, so that it cannot be rebuilt.
    """
    chosen = "id IN (SELECT value FROM json_each(?))"
    with store.writing() as connection:  # what others derive meanwhile waits, and is then refused
        if missing := sorted(set(ids) - {entry.id for entry in store.entries(ids)}):
            raise InputError(f"no memory has the number {missing[0]}", "see `letheon memory list`")
        every = with_derived(store, ids)
        gone, listed = store.entries(every), json.dumps(every)
        held = connection.execute(f"SELECT id, vector FROM memories WHERE {chosen}", (listed,))
        vectors = {int(number): bytes(vector) for number, vector in held}
        connection.executemany(
            "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", [(entry.id, entry.text) for entry in gone]
        )
        connection.execute(f"DELETE FROM memories WHERE {chosen}", (listed,))
        connection.execute("DELETE FROM sources WHERE derived IN (SELECT value FROM json_each(?))", (listed,))
        note = json.dumps({"owner": uuid.uuid4().hex, "case": case, "memories": len(every), "chosen": len(set(ids))})
        connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (UNFINISHED, note))
        rows = [(_mark(session), "") for session in {entry.session for entry in gone}]
        connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", rows)
    derived = sorted(set(every) - set(ids))
    for _ in range(ATTEMPTS):
        version = store.version()
        if not store.rebuild(finish=False):
            break
        with store.writing(during_erasure=True):  # nobody else writes while the files are read
            files = {path.name: path.read_bytes() for path in raw_files(store.path)}
            # a program that does not wait for erasures may have written since the file was rebuilt
            untouched = store.version() == version and not files.get(f"{store.path.name}-wal")
            proof = _proof(store, gone, derived, files, vectors, subject) if untouched else None
        if proof:
            store.finish_erasure(note)
            return proof
    raise LetheonError(
        f"the rows are deleted, but {store.path} is open in another process: their bytes may still be in its log",
        f"close the other process, then run `letheon memory forget {store.path}`: it completes the erasure",
    )


def owed(store: Store) -> dict[str, tuple[int, int]]:
    """Return the cases of ledgers whose erasure was completed by another process than began it.

    Returns:
        Case -> number of memories that were erased, and how many of them as derived ones.
    """
    notes = {name[len(OWED) :]: json.loads(note) for name, note in store.about().items() if name.startswith(OWED)}
    return {case: (note["memories"], note["memories"] - note["chosen"]) for case, note in notes.items()}


def settle(store: Store, case: str) -> None:
    """Note that the case's ledger has an entry of its outcome."""
    with store.writing() as connection:
        connection.execute("DELETE FROM about WHERE name = ?", (OWED + case,))


def _proof(
    store: Store,
    gone: Sequence[Entry],
    derived: list[int],
    files: dict[str, bytes],
    vectors: Mapping[int, bytes],
    subject: str | None,
) -> Erasure:
    needles = _needles(gone)
    if subject:
        spellings = (subject, subject.lower(), subject.upper(), subject.title(), subject.casefold())
        needles = list(dict.fromkeys([*needles, *spellings]))
    remains, stems = _remains(store, files, needles, list(vectors.values()), _words(gone))
    if subject:
        named = [entry.id for entry in store.entries() if concerns(entry, subject)]
        remains += [f"memory {number} names {subject}" for number in named]
    sizes = {name: len(content) for name, content in files.items()}
    searched = len(needles) + len(vectors)
    similar = _similar(store, [vector for number, vector in vectors.items() if number not in derived])
    return Erasure([entry.id for entry in gone], derived, sizes, searched, stems, remains, similar)


def _similar(store: Store, vectors: Sequence[bytes]) -> list[int]:
    """Return the numbers of remaining memories that have a cosine of `SIMILAR` with an erased one.

    Vectors that are none, or of another embedder, are passed over: the rows are deleted, and nothing may fail now.
    """
    size = 4 * store.width
    vectors = [one for one in vectors if len(one) == size]
    if not size or not vectors:
        return []
    chosen = "typeof(vector) = 'blob' AND length(vector) = ?"
    rows = store.connection.execute(f"SELECT id, vector FROM memories WHERE {chosen} ORDER BY id", (size,)).fetchall()
    erased, present = (
        np.frombuffer(b"".join(given), dtype="<f4").reshape(-1, size // 4)
        for given in (vectors, [vector for _, vector in rows])
    )
    near = (present @ erased.T).max(axis=1, initial=-1.0) >= SIMILAR
    return [int(number) for (number, _), one in zip(rows, near, strict=True) if one]


def erased_from(store: Store, session: str) -> bool:
    """Whether something of a session was ever erased; the file holds a hash of its name, which outlives the erasure."""
    return _mark(session) in store.about()


def _mark(session: str) -> str:
    return f"erased from {hashlib.blake2b(session.encode(), digest_size=16).hexdigest()}"


def concerns(entry: Entry, subject: str) -> bool:
    """Whether a memory is about a subject or names it: in its text, speaker, details or session, as whole words.

    Case does not matter, and a genitive counts: Ilse's, Ilses, Quarrants'.
    """
    name = _folded(subject)
    pattern = re.compile(rf"(?<!\w){re.escape(name)}(?:['’]?s['’]?|['’])?(?!\w)")
    details = {key: value for key, value in entry.details.items() if key != FIELD}  # numbers and levels
    texts = (entry.text, entry.session, entry.subject or "", entry.role if entry.role not in ROLES else "")
    return any(pattern.search(_folded(text)) for text in (*texts, *_values(details), *_keys(details)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _keys(value: Any) -> Iterator[str]:
    """Yield the names of the fields of nested JSON."""
    if isinstance(value, dict):
        yield from value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _keys(one)


def _remains(
    store: Store, files: dict[str, bytes], needles: Sequence[str], vectors: Sequence[bytes], terms: Iterable[str]
) -> tuple[list[str], int]:
    """Return what the files and the index hold beyond the reference, and the number of stems."""
    with _reference(store) as reference:
        image = reference.serialize()
        stems = _stems(reference, terms)
        places = {stem: _places(reference, stem) for stem in stems}
        remains = [f"index: {stem}" for stem in stems if _places(store.connection, stem) - places[stem]]
        if surplus := len(_pages(store.connection) - _pages(reference)):  # a stem marked as deleted has no place
            remains.append(f"index: {surplus} pages that the remaining memories do not account for")
    searched = [(text, text.encode()) for text in needles]
    searched += [(f"vector {number}", vector) for number, vector in enumerate(vectors) if any(vector)]
    for name, needle in searched:
        count = sum(content.count(needle) for content in files.values())
        if count and count > image.count(needle):
            remains.append(name)
    return remains, len(stems)


def _reference(store: Store) -> sqlite3.Connection:
    """Build a database in memory from the remaining memories, in the way in which the file was built."""
    reference = sqlite3.connect(":memory:", isolation_level=None)
    page = store.connection.execute("PRAGMA page_size").fetchone()[0]
    reference.execute(f"PRAGMA page_size = {page}")
    for statement in filter(str.strip, SCHEMA.split(";\n")):
        reference.execute(statement)
    reference.execute("BEGIN")
    for table in ("about", "memories", "sources"):
        rows = store.connection.execute(f"SELECT * FROM {table}")
        marks = ", ".join("?" * len(rows.description))
        reference.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    reference.execute("COMMIT")
    reference.execute("INSERT INTO words (words) VALUES ('rebuild')")
    reference.execute("VACUUM")
    return reference


def _stems(reference: sqlite3.Connection, terms: Iterable[str]) -> list[str]:
    """Return the stems under which the index lists words."""
    tokenizer = SCHEMA.split("tokenize = ")[1].split("\n")[0]
    reference.execute(f"CREATE VIRTUAL TABLE temp.erased USING fts5 (text, tokenize = {tokenizer})")
    reference.executemany("INSERT INTO temp.erased VALUES (?)", ((term,) for term in terms))
    reference.execute("CREATE VIRTUAL TABLE temp.erased_stems USING fts5vocab ('temp', 'erased', 'row')")
    return [stem for (stem,) in reference.execute("SELECT term FROM temp.erased_stems")]


def _places(connection: sqlite3.Connection, stem: str) -> set[tuple[int, int]]:
    """Return the memories and positions in which the word index lists a stem."""
    connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.places USING fts5vocab ('main', 'words', 'instance')")
    return set(connection.execute("SELECT doc, offset FROM temp.places WHERE term = ?", (stem,)))


def _pages(connection: sqlite3.Connection) -> set[bytes]:
    """Return the pages of the word index that hold stems; those up to number 10 count and link them."""
    return {bytes(page) for (page,) in connection.execute("SELECT block FROM words_data WHERE id > 10")}


def raw_files(path: Path) -> list[Path]:
    """Return the files that can hold bytes of a memory: the database, its log, its shared index, a journal."""
    places = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
    return [place for place in places if place.exists()]


def _needles(gone: Sequence[Entry]) -> list[str]:
    """Return what must not be left: runs of four words, words as written and in lower case, subjects, details.

    Long texts are stored in several pages, so runs are searched for and not whole texts. At most `MOST_NEEDLES`, evenly
    spaced, are taken.
    """
    needles: dict[str, None] = {}
    for entry in gone:
        for text in _texts(entry):
            words = list(re.finditer(r"\w+", text))
            runs = [text[a.start() : b.end()] for a, b in zip(words, words[3:], strict=False)] or [text]
            single = [word.group() for word in words]
            written = [*runs, *single, *(word.lower() for word in single)]
            needles |= dict.fromkeys(one for one in written if len(one) >= SHORTEST)
    return list(needles)[:: max(1, -(-len(needles) // MOST_NEEDLES))]


def _words(gone: Sequence[Entry]) -> Iterator[str]:
    for entry in gone:
        yield from _texts(entry)


def _texts(entry: Entry) -> Iterator[str]:
    """Yield the texts that a memory holds: its own, its subject, speaker and session, and what its details say."""
    yield entry.text
    yield entry.session
    if entry.subject:
        yield entry.subject
    if entry.role not in ROLES:
        yield entry.role
    yield from _values(entry.details)
    yield from _keys({key: value for key, value in entry.details.items() if key != FIELD})


def _values(value: Any) -> Iterator[str]:
    """Yield texts and numbers of nested JSON, as they are stored."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner)
    elif isinstance(value, str):
        yield from {value, json.dumps(value)[1:-1]}  # JSON escapes letters outside of ASCII
    elif not isinstance(value, bool | None):
        yield json.dumps(value)
