"""Import and export of memories as JSON Lines: Letheon's own, and the shapes of Mem0 and LangChain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from letheon.core.atomic import atomic_write_text
from letheon.core.errors import InputError
from letheon.recall.store import Entry

ROLES = {"human": "user", "ai": "assistant"}


def write_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Write one JSON object per memory, with its sources' numbers."""
    atomic_write_text(path, "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries))


def read_entries(path: Path) -> list[Entry]:
    """Read memories, one JSON object per line, of any of the known shapes; derived memories are not read.

    Known are Letheon's `{"text", "role", ...}`, Mem0's `{"memory", "user_id", "created_at"}`, and LangChain's messages
    `{"type": "human" | "ai", "data": {"content"}}` and documents `{"page_content", "metadata"}`.

    Raises:
        InputError: names the line and what was found.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}", "give a file of JSON Lines in UTF-8") from None
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = _entry(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problem = f"{path}, line {number}: no memory in {line[:60]!r} ({error})"
            raise InputError(problem, "give objects with text, memory, page_content, or type and data") from None
        if entry.kind in ("turn", "note"):
            entries.append(entry)
    return entries


def _entry(value: dict[str, Any]) -> Entry:
    if "memory" in value:
        about = value.get("user_id") or value.get("agent_id")
        if about is not None and not isinstance(about, str):
            raise ValueError(f"user_id is {about!r}")
        return Entry(_text(value["memory"]), kind="note", subject=about, created=_seconds(value.get("created_at")))
    if "page_content" in value:
        details = dict(value.get("metadata") or {})
        return Entry(_text(value["page_content"]), kind="note", details=details)
    if "data" in value:
        return Entry(_text(value["data"]["content"]), ROLES.get(_text(value["type"], "type"), value["type"]))
    known = {
        name: value[name] for name in ("role", "kind", "session", "subject", "created", "details") if name in value
    }
    kinds: dict[str, Any] = {"created": (int, float), "details": dict, "subject": (str, type(None))}
    for name, content in known.items():
        if not isinstance(content, kinds.get(name, str)) or (name in ("role", "kind") and not content):
            raise ValueError(f"{name} is {content!r}")
    return Entry(_text(value["text"]), **known)


def _text(value: Any, name: str = "text") -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}")
    return value


def _seconds(value: Any) -> float:
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value or 0.0)
