"""`Entry`: one memory, and what keeps one from being stored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

LONGEST = 1_000_000  # characters per text


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


def problem_of(entry: Entry) -> tuple[str, str] | None:
    """Return what keeps a memory from being stored, and what to do about it."""
    for name in ("text", "role", "kind", "session", "subject"):
        value = getattr(entry, name)
        if not isinstance(value, str) and (name, value) != ("subject", None):
            return f"its {name} is {value!r}", f"give a text as {name}"
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            return f"its {name} holds half a surrogate pair", "give Unicode text"
    if not entry.text.strip() or len(entry.text) > LONGEST:
        return f"a text of {len(entry.text)} characters", f"a text has 1 to {LONGEST} characters: split it"
    created: Any = entry.created
    details: Any = entry.details
    if not isinstance(created, int | float) or not isinstance(details, dict):
        return f"created is {created!r}, details are {details!r}", "give seconds, and an object"
    try:
        json.dumps(details)
    except (TypeError, ValueError) as error:
        return f"its details are no JSON: {error}", "give an object of JSON values"
    return None
