"""Streams of text tasks from a TOML file: each task a file or a hub data set.

name = "domains"

[[task]]
name = "reviews"
train = "reviews.jsonl"            # JSON lines, JSON, CSV, Parquet, or a hub id org/name:config:split
test = "reviews-test.jsonl"        # without it every fifth row is held out
fields = ["question", "answer"]    # where they are not detected
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError, nearest
from letheon.core.rows.examples import Example, read_examples
from letheon.retain.stream import Stream, Task

KNOWN = ["name", "train", "test", "fields"]


def read_toml(path: Path) -> dict[str, Any]:
    """Read a stream file (`InputError` if it is missing or no TOML)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "give a stream file; `letheon learn --help` shows one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is no TOML: {error}", "correct that line") from None


def read_text_stream(path: Path, content: Mapping[str, Any]) -> Stream:
    """Read a stream of texts from the content of its file; paths in it are relative to the file.

    Raises:
        InputError: a fault in the file; names file, task and field, and says how to correct it.
    """
    tasks = content.get("task")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks) or not tasks:
        raise InputError(f"{path}: no [[task]]", "write a [[task]] with name and train for each task")
    made = tuple(_task(path, number, entry) for number, entry in enumerate(tasks, start=1))
    return Stream(str(content.get("name", path.stem)), made, "domain", str(path))


def text_stream(name: str, tasks: dict[str, tuple[list[Example], list[Example]]]) -> Stream:
    """Make a stream from examples in memory: (train, test) by task name."""
    made = tuple(Task(title, tuple(train), tuple(test)) for title, (train, test) in tasks.items())
    return Stream(name, made, "domain")


def split_task(name: str, rows: Sequence[Example]) -> Task:
    """Make a task from rows; every fifth row is held out for tests, or the last where there are fewer than five."""
    test = rows[4::5] or rows[-1:]
    return Task(name, tuple(row for row in rows if row not in test), tuple(test))


def _task(path: Path, number: int, entry: dict[str, Any]) -> Task:
    where = f"{path}, task {number}"
    for field in entry:
        if field not in KNOWN:
            raise InputError(f"{where}: unknown field {field!r}", nearest(field, KNOWN))
    name = entry.get("name", f"task {number}")
    if not isinstance(name, str) or not isinstance(entry.get("train"), str):
        raise InputError(f"{where}: `train` is missing or no text", 'write train = "rows.jsonl"')
    fields = entry.get("fields")
    pair: tuple[str, str] | None = None
    if fields is not None:
        if not isinstance(fields, list) or len(fields) != 2 or not all(isinstance(field, str) for field in fields):
            raise InputError(f"{where}: fields {fields!r}", 'write fields = ["question", "answer"]')
        pair = (fields[0], fields[1])
    where = f"{where} ({name})"
    train = _read(path, where, "train", entry["train"], pair)
    if "test" in entry:
        return Task(name, tuple(train), tuple(_read(path, where, "test", entry["test"], pair)))
    if len(train) < 2:
        raise InputError(f"{where}: one row, and no test", "give a test file, or more rows")
    return split_task(name, train)


def _read(path: Path, where: str, part: str, source: Any, fields: tuple[str, str] | None) -> list[Example]:
    if not isinstance(source, str):
        raise InputError(f"{where}: {part} is no text", f'write {part} = "rows.jsonl"')
    beside = path.parent / source
    try:
        return read_examples(beside if beside.exists() or ":" not in source else source, fields)
    except InputError as error:
        raise InputError(f"{where}, {part}: {error.problem}", error.remedy) from None
