"""Deletion requests: rows to forget and rows to retain, with reason and due date."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from letheon.core.atomic import canonical_hash, read_json, write_json
from letheon.core.errors import InputError, nearest
from letheon.core.rows.examples import Example, parse_rows, read_examples, short
from letheon.core.runs import utc_now

SUBSETS = ("forget", "retain", "neighbours", "holdout", "general")


@dataclass(frozen=True)
class Request:
    """A deletion request.

    Attributes:
        forget: rows to forget.
        retain: rows that must stay; used in training.
        neighbours: rows close to the forget rows that must stay; never trained on, only audited.
        holdout: rows like the forget rows that the model never saw: the control group.
        general: running text for perplexity.
        id, reason, received, due: the case's own data; times are ISO 8601.
    """

    forget: tuple[Example, ...]
    retain: tuple[Example, ...] = ()
    neighbours: tuple[Example, ...] = ()
    holdout: tuple[Example, ...] = ()
    general: tuple[Example, ...] = ()
    id: str = ""
    reason: str = ""
    received: str = ""
    due: str | None = None

    def __post_init__(self) -> None:
        for name in SUBSETS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "id", self.id or f"request-{uuid.uuid4().hex[:8]}")
        object.__setattr__(self, "received", self.received or utc_now())
        self._check()

    def _check(self) -> None:
        if not self.forget:
            raise InputError("the request has no forget rows", "give at least one row to forget")
        wanted = {key_of(row): row for row in self.forget}
        for name in ("retain", "neighbours"):
            for row in getattr(self, name):
                if (other := wanted.get(key_of(row))) is not None:
                    raise InputError(
                        f"{name} row {row.id} is also forget row {other.id}: {row.prompt[:60]!r}",
                        "a row cannot be forgotten and kept: remove it from one of the two",
                    )

    @classmethod
    def from_files(
        cls,
        forget: str | Path,
        retain: str | Path | None = None,
        *,
        neighbours: str | Path | None = None,
        holdout: str | Path | None = None,
        general: str | Path | None = None,
        fields: tuple[str, str] | None = None,
        **case: Any,
    ) -> Request:
        """Read each set from a file or hub data set; `case` may give id, reason, received and due."""
        sources = {"retain": retain, "neighbours": neighbours, "holdout": holdout, "general": general}
        sets = {name: read_examples(source, fields) for name, source in sources.items() if source is not None}
        return cls(forget=tuple(read_examples(forget, fields)), **sets, **case)  # type: ignore[arg-type]  # tuples later

    @classmethod
    def read(cls, path: str | Path) -> Request:
        """Read a `request.json`: each set is a file name (relative to the request) or a list of rows."""
        path = Path(path)
        content = read_json(path)
        if not isinstance(content, dict) or "forget" not in content:
            raise InputError(f"{path}: no field 'forget'", "a request is an object with forget and, best, retain")
        known = [field.name for field in fields(cls)]
        for name in content:
            if name not in known:
                raise InputError(f"{path}: unknown field {name!r}", nearest(name, known))
        sets = {name: _subset(content[name], path, name) if content.get(name) else () for name in SUBSETS}
        case = {name: content[name] for name in ("id", "reason", "received", "due") if content.get(name)}
        for name, found in case.items():
            if not isinstance(found, str):
                raise InputError(f"{path}, field {name!r}: found {short(found)}, not text", "write it as text")
        return cls(**sets, **case)  # type: ignore[arg-type]  # sets and case are told apart by name

    def write(self, path: Path) -> None:
        """Write the request with its rows, so that the run folder can be continued by itself."""
        sets = {name: [row_of(example) for example in getattr(self, name)] for name in SUBSETS}
        write_json(path, {"id": self.id, "reason": self.reason, "received": self.received, "due": self.due, **sets})


def key_of(row: Example) -> tuple[str, str]:
    """A row's identity: prompt and answer with white space normalised."""
    return (" ".join(row.prompt.split()), " ".join(row.answer.split()))


def row_of(example: Example) -> dict[str, Any]:
    """An example as a JSON object from which it can be read again."""
    row = {name: value for name, value in asdict(example).items() if value}
    return row if example.prompt else {**row, "text": row.pop("answer")}


def rows_hash(request: Request) -> str:
    """Hash the training rows without their ids: a row without an id gets one when it is read again."""
    rows = [[replace(row, id="") for row in rows] for rows in (request.forget, request.retain)]
    return canonical_hash(rows)


def _subset(value: Any, path: Path, name: str) -> Sequence[Example]:
    if isinstance(value, str):
        local = path.parent / value
        return read_examples(local if os.path.exists(local) else value)
    if isinstance(value, list):
        return parse_rows(value, f"{path}, {name}", prefix=name)
    raise InputError(f"{path}, field {name!r}: found {type(value).__name__}", "give a file name or a list of rows")
