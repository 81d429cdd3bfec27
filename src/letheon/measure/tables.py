"""The tables of a data set: on the hub, or in a folder that holds a copy in the data set's own layout.

A table is named by its configuration and split. In a folder it is looked for as `forget05.json`, `raw/forget.txt` and
`wmdp-bio/test-00000-of-00001.parquet` are written: `CONFIG.*`, `CONFIG/SPLIT.*`, `CONFIG/SPLIT-*`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows, short
from letheon.core.rows.sampling import stream_seed

Item = TypeVar("Item")
SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".txt")


def is_folder(source: str | Path) -> bool:
    """Say whether a source is a local copy; a hub id is not, and anything else is refused.

    Raises:
        InputError: a path that does not exist.
    """
    if Path(source).is_dir():
        return True
    text = str(source)
    if text.startswith((".", "/", "~")) or text.count("/") != 1 or Path(text).exists():
        raise InputError(f"{text} is no folder and no hub id", "give the folder of a copy, or an id such as org/name")
    return False


def find_table(folder: Path, config: str, split: str) -> list[Path]:
    """The files of a table in a local copy, several where it is cut into parts; none where there is no such table."""
    for suffix in SUFFIXES:
        names = (f"{config}/{split}-[0-9]*{suffix}", f"{config}/{split}{suffix}", f"{config}{suffix}")
        for name in names:
            if files := sorted(folder.glob(name)):
                return files
    return []


def read_table(
    source: str | Path, config: str, splits: Sequence[str] = ("train",), *, optional: bool = False
) -> tuple[str, list[dict[str, Any]]]:
    """Return the place of a table, and its rows.

    Args:
        source: a folder or a hub id.
        splits: names that versions of the data set have given the split; on the hub the first is asked for.
        optional: no rows where a folder has no such table.

    Raises:
        InputError: there is no such table, it has no rows, or a row is no object.
    """
    if not is_folder(source):
        where = f"{source}:{config}:{splits[0]}"
        return where, _objects(where, read_rows(where))
    folder = Path(source)
    files = next((parts for split in splits if (parts := find_table(folder, config, split))), [])
    if not files and optional:
        return "", []
    if not files:
        raise InputError(
            f"{folder} has no table {config} ({' or '.join(splits)})",
            f"looked for {config}.json, {config}/{splits[0]}.json and the like (jsonl, parquet, csv, txt): "
            "give a copy in the data set's own layout",
        )
    return str(files[0]), [row for file in files for row in _rows_of(file)]


def _rows_of(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".txt":
        return [{"text": file.read_text(encoding="utf-8")}]
    return _objects(str(file), read_rows(file))


def _objects(where: str, rows: Sequence[tuple[int, Any]]) -> list[dict[str, Any]]:
    """Rows as objects; a bare text (as lists of texts have) is an object with a field `text`."""
    objects = []
    for number, row in rows:
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise InputError(f"{where}, row {number}: found {short(row)}, not an object", "write each row as an object")
        objects.append(row)
    if not objects:
        raise InputError(f"{where} holds no rows", "give a file with at least one row")
    return objects


def drawn(items: Sequence[Item], most: int, seed: int, stream: str) -> list[Item]:
    """Draw at most `most` items, in their order, by a random stream of their own; 0 takes all."""
    if not 0 < most < len(items):
        return list(items)
    chosen = random.Random(stream_seed(seed, stream)).sample(range(len(items)), most)
    return [items[i] for i in sorted(chosen)]


def text_of(row: Mapping[str, Any], name: str, where: str) -> str:
    """A field that must be a text.

    Raises:
        InputError: names the field and what was found.
    """
    if name not in row:
        raise InputError(
            f"{where}: there is no field {name!r}", f"the row has: {', '.join(map(str, row)) or 'nothing'}"
        )
    text = row[name]
    if not isinstance(text, str) or not text.strip():
        raise InputError(
            f"{where}, field {name!r}: found {short(text)}, not a non-empty text", "fill it or remove the row"
        )
    return text


def drawn_from(benchmark: Any) -> dict[str, Any]:
    """Return where a benchmark's data come from and how they were drawn: source, split, rows, seed."""
    return {name: getattr(benchmark, name) for name in ("source", "split", "rows", "seed")}
