"""Import and export of memories as JSON Lines: Letheon's own, and the shapes of Mem0 and LangChain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from letheon.core.atomic import atomic_write_text
from letheon.core.errors import InputError
from letheon.recall.entries import Entry
from letheon.recall.lifelong.nodes import FIELD

Shape = Literal["letheon", "mem0", "langchain"]
ROLES = {"human": "user", "ai": "assistant"}


def read_entries(path: Path, session: str | None = None) -> list[Entry]:
    """Read memories, one JSON object per line, of any of the known shapes; derived memories are not read.

    Known are Letheon's `{"text", "role", ...}`, Mem0's `{"memory", "user_id", "created_at", "metadata"}`, and
    LangChain's messages `{"type": "human" | "ai", "data": {"content"}}` and documents `{"page_content", "metadata"}`.
    A whole file that is one JSON array, or Mem0's `{"results": [...]}`, is read as well. A reply's sources are the
    places of memories in the list that is returned, -1 for the first.

    Args:
        path: the file.
        session: begins the name of every session, so that imported turns are no turns of a conversation that goes on;
            by default `imported FILE`. An empty text leaves the sessions as they are named.

    Raises:
        InputError: names the line and what was wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}", "give a file of JSON Lines in UTF-8") from None
    prefix = f"imported {path.stem}" if session is None else session
    entries: list[Entry] = []
    places: dict[int, int] = {}
    for number, value in _values(path, text):
        try:
            entry, given = _entry(value), value
            if entry.kind not in ("turn", "note"):
                continue
            sources = [int(i) for i in given.get("sources", ())]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problem = f"{path}, line {number}: no memory in {str(value)[:60]!r} ({error})"
            raise InputError(problem, "give objects with text, memory, page_content, or type and data") from None
        named = " ".join(filter(None, (prefix, entry.session)))
        known = tuple(places[i] for i in sources if i in places)
        details = {key: inner for key, inner in entry.details.items() if key != FIELD}  # it holds numbers of its file
        entries.append(replace(entry, session=named, sources=known, details=details))
        if isinstance(given.get("id"), int):
            places[given["id"]] = -len(entries)
    return entries


def _values(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield each line's value with its number; those of one array count as lines."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("results"), list):
        whole = whole["results"]
    if isinstance(whole, list) and all(isinstance(value, dict) for value in whole):
        yield from enumerate(whole, start=1)
        return
    for number, line in enumerate(text.split("\n"), start=1):  # a text may hold other line separators
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                problem = f"{path}, line {number}: no memory in {line[:60]!r} ({error})"
                raise InputError(problem, "give one JSON object per line") from None


def _entry(value: dict[str, Any]) -> Entry:
    if "memory" in value:
        about = value.get("user_id") or value.get("agent_id")
        return Entry(
            _text(value["memory"]), "user", "note", _optional(value, "run_id") or "", _named(about),
            _seconds(value.get("created_at")), dict(value.get("metadata") or {}),
        )  # fmt: skip
    if "page_content" in value:
        details = dict(value.get("metadata") or {})
        return Entry(_text(value["page_content"]), kind="note", details=details)
    if "data" in value:
        role = _text(value["type"])
        return Entry(_content(value["data"]["content"]), ROLES.get(role, role))
    named = {name: _optional(value, name) for name in ("role", "kind", "session")}
    return Entry(
        _text(value["text"]), named["role"] or "user", named["kind"] or "turn", named["session"] or "",
        _optional(value, "subject"), _seconds(value.get("created")), dict(value.get("details") or {}),
    )  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"text is {value!r}")
    return value


def _content(value: Any) -> str:
    """Read LangChain's content: a text, or a list of parts whose texts count."""
    if isinstance(value, list):
        value = "\n".join(part if isinstance(part, str) else str(part.get("text", "")) for part in value).strip()
    return _text(value)


def _optional(value: dict[str, Any], name: str) -> str | None:
    return _named(value.get(name), name)


def _named(value: Any, name: str = "user_id") -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, not a text")
    return value or None


def _seconds(value: Any) -> float:
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value or 0.0)


def write_shape(path: Path, entries: Sequence[Entry], shape: Shape = "letheon") -> None:
    """Write memories as JSON Lines in Letheon's shape, Mem0's, or as LangChain's messages.

    Derived beliefs, summaries and rules stand in Letheon's shape only.
    """
    kept = [entry for entry in entries if shape == "letheon" or entry.kind in ("turn", "note")]
    lines = (json.dumps(_SHAPES[shape](entry), ensure_ascii=False) + "\n" for entry in kept)
    atomic_write_text(path, "".join(lines))


def _mem0(entry: Entry) -> dict[str, Any]:
    created = datetime.fromtimestamp(entry.created, UTC).isoformat()
    fields = {"id": str(entry.id), "memory": entry.text, "user_id": entry.subject, "run_id": entry.session or None}
    return {**fields, "created_at": created, "metadata": entry.details}


def _langchain(entry: Entry) -> dict[str, Any]:
    names = {role: name for name, role in ROLES.items()}
    return {"type": names.get(entry.role, entry.role), "data": {"content": entry.text}}


_SHAPES: dict[Shape, Callable[[Entry], dict[str, Any]]] = {"letheon": asdict, "mem0": _mem0, "langchain": _langchain}
