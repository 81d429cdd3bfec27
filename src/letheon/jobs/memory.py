"""`letheon memory`: add, search, list, forget, reindex, import and export the memories of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError, LetheonError
from letheon.recall.embedders import load_embedder
from letheon.recall.entries import Entry
from letheon.recall.erasure import Erasure
from letheon.recall.exchange_formats import Shape, read_entries, write_shape
from letheon.recall.memory import Memory, reindex
from letheon.recall.ranking import Search
from letheon.recall.store import UNFINISHED, Store


@contextmanager
def opened(path: Path, embedder: str = "") -> Iterator[Memory]:
    """Open a memory file with the given embedder, by default with the file's own."""
    if not embedder:
        embedder = Store.facts(path)["embedder"] if path.is_file() else "minilm"
    with Memory(path, embedder) as memory:
        yield memory


def existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} does not exist", "check the path, or add a first memory")
    return path


def described(entry: Entry) -> dict[str, Any]:
    """Return a memory as a dictionary without empty values."""
    return {name: value for name, value in asdict(entry).items() if value not in (None, "", {}, ())}


def add_note(path: Path, text: str, subject: str | None, embedder: str) -> dict[str, Any]:
    """Store a note and return its number."""
    with opened(path, embedder) as memory:
        return {"id": memory.remember(text, subject), "memories": len(memory.store)}


def import_file(path: Path, source: Path, embedder: str, own: bool) -> dict[str, Any]:
    """Store all memories of a file of JSON Lines; a broken line stores none.

    Args:
        own: the file is the user's own export: sessions keep their names, and standing rules hold again.
    """
    entries = read_entries(source, "" if own else None)
    with opened(path, embedder) as memory:
        stored = len(memory.import_entries(entries, rules=own))
        sessions = sorted({entry.session for entry in entries})
        return {"imported": stored, "memories": len(memory.store), "sessions": ", ".join(sessions)}


def export_file(path: Path, out: Path, shape: Shape) -> dict[str, Any]:
    """Write all memories as JSON Lines in a shape."""
    with opened(existing(path)) as memory:
        write_shape(out, memory.store.entries(), shape)
        return {"exported": sum(1 for _ in out.open(encoding="utf-8")), "file": str(out)}


def search_file(path: Path, query: str, k: int, by: Search) -> list[dict[str, Any]]:
    """Return the k best memories for a query, best first, each with its score."""
    with opened(existing(path)) as memory:
        return [{**described(entry), "score": score} for entry, score in memory.search(query, k, by)]


def list_file(path: Path, subject: str | None) -> list[dict[str, Any]]:
    """Return all memories, or those about a subject, in the order in which they were stored."""
    with opened(existing(path)) as memory:
        return [described(entry) for entry in memory.store.entries(subject=subject)]


def matches_in_file(path: Path, query: str) -> list[dict[str, Any]]:
    """Return the memories that an erasure by a query would take, without what is derived from them."""
    with opened(existing(path)) as memory:
        return [described(entry) for entry in memory.matches(query)]


def complete_erasure(path: Path) -> bool:
    """Complete an erasure that was cut short; return whether there was one.

    What it erased is known no more: the file is rebuilt from what remains, and not searched.

    Raises:
        LetheonError: another process has the file open.
    """
    if UNFINISHED not in Store.facts(existing(path)):
        return False
    with opened(path) as memory:  # opening completes it
        if UNFINISHED in memory.store.about():
            problem = f"an erasure of {path} was cut short, and cannot be completed while another process has it open"
            raise LetheonError(problem, "close the other process, then run the command again")
    return True


def finds(path: Path, subject: str | None, query: str | None, ids: list[int] | None) -> bool:
    """Return whether any memory is there to be erased; two ways of choosing count as something, to be refused."""
    given = [one for one in (subject, query, ids or None) if one is not None]
    with opened(existing(path)) as memory:
        if len(given) != 1:
            return bool(given)
        try:
            chosen = memory.concerned(subject=subject, query=query, ids=ids or None)
        except InputError:
            return False
        return bool(memory.store.entries(chosen))


def forget_in_file(path: Path, subject: str | None, query: str | None, ids: list[int] | None) -> Erasure:
    """Erase memories and what was derived from them, and prove it on the raw file."""
    with opened(existing(path)) as memory:
        return memory.forget(ids=ids or None, subject=subject, query=query)


def reindex_file(path: Path, embedder: str) -> dict[str, Any]:
    """Compute all vectors anew with another embedder."""
    return {"reindexed": reindex(existing(path), load_embedder(embedder)), "embedder": embedder}
