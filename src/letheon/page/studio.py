"""What the folders named at the start hold: runs, audits, comparisons, streams, ledgers, memories, models."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from letheon.core.errors import LetheonError
from letheon.core.model.models import check_loadable
from letheon.recall.store import Store

DEEPEST, MOST = 5, 2000  # levels below a named folder, folders that are looked into
LARGEST_RECORD = 64 << 20  # bytes of a record that is read for its summary
EMBEDDED = ("smollm2", "tiny")
# File that shows what a folder holds -> kind, from the most telling to the least.
MARKERS = {
    "audit.json": "audit",
    "compare.json": "comparison",
    "learned.json": "stream",
    "ledger.db": "ledger",
    "config.json": "run",
}
HEADINGS = {
    "run": "Runs",
    "audit": "Audits",
    "comparison": "Comparisons",
    "stream": "Streams",
    "ledger": "Ledgers",
    "memory": "Memories",
}


@dataclass(frozen=True)
class Item:
    """One thing on the machine.

    Attributes:
        kind: `run`, `audit`, `comparison`, `stream`, `ledger` or `memory`.
        root: number of the named folder that it lies in.
        name: its path below that folder, with slashes; `.` for the folder itself.
        changed: when its file was last written.
        summary: one line on it, such as an audit's verdict.
    """

    kind: str
    root: int
    name: str
    changed: datetime
    summary: str = ""


def items(folders: Sequence[Path]) -> list[Item]:
    """List what the folders hold, the latest first; links are not followed."""
    listed = [item for root, folder in enumerate(folders) for item in _items_of(root, folder)]
    return sorted(listed, key=lambda item: item.changed, reverse=True)


def _items_of(root: int, folder: Path) -> Iterator[Item]:
    for place, files in _walk(folder):
        name = place.relative_to(folder).as_posix()
        run = "config.json" in files and not {"model.safetensors", "tokenizer.json"} & files
        for marker, kind in MARKERS.items():
            if marker in files and (kind != "run" or run):
                yield Item(kind, root, name, _changed(place / marker), _summary(kind, place / marker))
                break
        for file in sorted(files):
            if file.endswith((".db", ".sqlite", ".memory")) and file != "ledger.db":
                with suppress(LetheonError, OSError, sqlite3.Error):
                    facts = Store.facts(place / file)
                    if "embedder" in facts:
                        path = (place / file).relative_to(folder).as_posix()
                        yield Item("memory", root, path, _changed(place / file), f"embedder {facts['embedder']}")


def _walk(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yield the folders below one, each with the names of its own files."""
    for number, (place, below, files) in enumerate(os.walk(folder, followlinks=False), start=1):
        path = Path(place)
        below[:] = sorted(name for name in below if not name.startswith(".") and not (path / name).is_symlink())
        if len(path.relative_to(folder).parts) >= DEEPEST:
            below.clear()
        yield path, {name for name in files if not (path / name).is_symlink()}
        if number >= MOST:
            return


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _summary(kind: str, path: Path) -> str:
    content = read_record(path) if path.suffix == ".json" else None
    if not isinstance(content, dict):
        return ""
    with suppress(KeyError, TypeError, IndexError):
        if kind == "audit":
            return f"{content['verdict']['outcome']}; {content['request']['id']}"
        if kind == "run":
            config = content["config"]
            parts = (str(config[name]) for name in ("model", "method", "recipe") if isinstance(config.get(name), str))
            return ", ".join(parts)
    return ""


def read_record(path: Path) -> Any:
    """Read a JSON file; None where it is missing, too large, or no JSON."""
    with suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= LARGEST_RECORD:
            return json.loads(path.read_text(encoding="utf-8"))
    return None


def models(folders: Sequence[Path], runs: Sequence[Path] = ()) -> dict[str, str]:
    """List the models that a form may name: a name for the form -> what `letheon.load` takes.

    Args:
        folders: the named folders; a model in one is named `NUMBER/PATH`.
        runs: folders of requests that this site served; the model of one is named `run/NUMBER`.
    """
    listed = {name: name for name in EMBEDDED}
    for root, folder in enumerate(folders):
        for place, files in _walk(folder):
            if any(name.endswith(".safetensors") for name in files) and {"config.json", "adapter_config.json"} & files:
                with suppress(LetheonError):
                    check_loadable(place)
                    listed[f"{root}/{place.relative_to(folder).as_posix()}"] = str(place)
    for run in runs:
        if (run / "out" / "model" / "config.json").is_file() or (
            run / "out" / "model" / "adapter_config.json"
        ).is_file():
            listed[f"run/{run.name}"] = str(run / "out" / "model")
    return listed


def memory_size(path: Path) -> dict[str, int]:
    """Count the rows of a memory file's tables without opening it for writing."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        plain = [name for name in names if name.isidentifier() and not name.startswith("sqlite_")]
        return {name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in plain}
