"""Read the first sheet of an .xlsx workbook as rows by column name, with the standard library alone.

Formulas are not computed: a cell has the value that was stored with it. Sizes are bounded, because a workbook is a zip
file and may unpack to far more than it weighs.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from letheon.core.errors import InputError

SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LARGEST_PART = 200_000_000  # bytes, unpacked
LARGEST_FILE = 100_000_000


def read_sheet(path: str | Path) -> list[dict[str, Any]]:
    """Return one row per line of the sheet after the head line; numbers as floats, empty cells left out.

    Raises:
        InputError: the file is no such workbook, is too large, or has no head line.
    """
    file = Path(path)
    remedy = "save it as .xlsx or .csv"
    if not file.is_file():
        raise InputError(f"{file} does not exist", "check the path")
    if file.stat().st_size > LARGEST_FILE:
        raise InputError(f"{file} is larger than {LARGEST_FILE:,} bytes", "save it as .csv")
    try:
        with zipfile.ZipFile(file) as book:
            texts = _shared_texts(book)
            names = sorted(name for name in book.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            lines = list(_lines(_part(book, names[0]), texts))
    except (zipfile.BadZipFile, ElementTree.ParseError, IndexError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{file}: not a workbook that can be read ({error})", remedy) from None
    if not lines or not all(isinstance(name, str) for name in lines[0].values()):
        raise InputError(f"{file}: the first line holds no column names", remedy)
    head = lines[0]
    return [{head[place]: value for place, value in line.items() if place in head} for line in lines[1:]]


def _part(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if book.getinfo(name).file_size > LARGEST_PART:
        raise ValueError(f"{name} unpacks to more than {LARGEST_PART:,} bytes")
    content = book.read(name)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # entities can multiply a small text
        raise ValueError(f"{name} declares entities")
    return ElementTree.fromstring(content)


def _shared_texts(book: zipfile.ZipFile) -> list[str]:
    name = "xl/sharedStrings.xml"
    if name not in book.namelist():
        return []
    return [
        "".join(text.text or "" for text in item.iter(f"{SPACE}t")) for item in _part(book, name).iter(f"{SPACE}si")
    ]


def _lines(sheet: ElementTree.Element, texts: list[str]) -> Iterator[dict[str, Any]]:
    for row in sheet.iter(f"{SPACE}row"):
        cells = {str(cell.get("r", "")).rstrip("0123456789"): _value(cell, texts) for cell in row.iter(f"{SPACE}c")}
        yield {place: value for place, value in cells.items() if value is not None}


def _value(cell: ElementTree.Element, texts: list[str]) -> Any:
    kind = cell.get("t")
    if kind == "inlineStr":
        return "".join(text.text or "" for text in cell.iter(f"{SPACE}t"))
    stored = cell.find(f"{SPACE}v")
    if stored is None or stored.text is None:
        return None
    if kind == "s":
        return texts[int(stored.text)]
    return float(stored.text) if kind in (None, "n") else stored.text
