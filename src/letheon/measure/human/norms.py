"""Tables of human word ratings: reading, and the faults that would spoil a comparison."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.errors import InputError, nearest
from letheon.core.rows.examples import read_rows, short
from letheon.measure.human.spreadsheet import read_sheet

WORD_COLUMNS = ("word", "words")
MISSING = ("", "na", "n/a", "#n/a", "n/d", "#n/d", "nan", "none", "null")
FAR = 3.5  # robust z-score of an outlier
MAD_TO_SD = 1.4826
SENSE = re.compile(r"^(?P<word>.+?)\s*\((?P<sense>[^)]*)\)$")


@dataclass(frozen=True)
class Norms:
    """Ratings of words by people.

    Attributes:
        words: every word that has a rating, once.
        ratings: the human mean of each word.
        columns: further numeric columns by name, one value (or None) per word.
        missing: number of words without a rating, which were left out.
    """

    words: tuple[str, ...]
    ratings: tuple[float, ...]
    columns: Mapping[str, tuple[float | None, ...]]
    missing: int = 0

    def take(self, places: Sequence[int]) -> Norms:
        """Return the norms of the words at these places."""
        columns = {name: tuple(values[i] for i in places) for name, values in self.columns.items()}
        return Norms(
            tuple(self.words[i] for i in places), tuple(self.ratings[i] for i in places), columns, self.missing
        )

    def outliers(self) -> list[str]:
        """Return the words whose rating lies more than 3.5 robust standard deviations from the median."""
        values = np.array(self.ratings)
        away = np.abs(values - np.median(values))
        spread = MAD_TO_SD * float(np.median(away))
        return [word for word, far in zip(self.words, away, strict=True) if spread and far / spread > FAR]


def read_table_of_words(path: str | Path) -> list[dict[str, Any]]:
    """Read a table of words: .csv, .jsonl, .json, .parquet or .xlsx.

    Raises:
        InputError: the file cannot be read, or a row is no object.
    """
    if str(path).lower().endswith(".xlsx"):
        return read_sheet(path)
    rows = read_rows(path)
    for number, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number}: found {short(row)}, not an object", "write each row as an object")
    return [row for _, row in rows]


def read_norms(
    path: str | Path, rating: str, low: float, high: float, *, word: str = "", further: Sequence[str] = ()
) -> Norms:
    """Read the words and their mean human ratings.

    Args:
        rating: name of the column of ratings.
        low, high: ends of the scale.
        word: name of the column of words; `Word`, `word`, `Words` by default.
        further: numeric columns to read beside (a second norm, a frequency).

    Raises:
        InputError: a column is missing, a word stands twice, a rating is no number or lies outside the scale.
    """
    rows = read_table_of_words(path)
    if not rows:
        raise InputError(f"{path} holds no rows", "give a file with at least one row")
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    word = word or next((name for name in names if name.lower() in WORD_COLUMNS), "")
    for name, what in ((word, "word"), (rating, "rating"), *((one, "column") for one in further)):
        if name not in names:
            hint = nearest(name, names) if name else f"columns: {', '.join(names)}"
            raise InputError(f"{path} has no {what} column {name!r}", f"name it with --set {what}=COLUMN; {hint}")
    texts = [str(row.get(word) or "").strip() for row in rows]
    check_words(texts, str(path))
    values = [
        read_number(row.get(rating), f"{path}, {rating} of {text!r}") for text, row in zip(texts, rows, strict=True)
    ]
    for text, value in zip(texts, values, strict=True):
        if value is not None and not low <= value <= high:
            remedy = "give the right column, or the scale: --set low=1 --set high=9"
            raise InputError(
                f"{path}: {text!r} has the rating {value:g}, outside the scale {low:g} to {high:g}", remedy
            )
    kept = [i for i, value in enumerate(values) if value is not None]
    if not kept:
        raise InputError(f"{path}, column {rating!r}: no rating is filled", "give another column")
    columns = {
        name: tuple(read_number(rows[i].get(name), f"{path}, {name} of {texts[i]!r}") for i in kept) for name in further
    }
    known = tuple(value for value in values if value is not None)
    return Norms(tuple(texts[i] for i in kept), known, columns, len(rows) - len(kept))


def check_words(words: Sequence[str], where: str) -> None:
    """Raise an InputError if a word is empty or stands twice."""
    if "" in words:
        raise InputError(f"{where}, row {words.index('') + 1}: no word", "fill it or remove the row")
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        shown = ", ".join(map(repr, twice[:5]))
        raise InputError(
            f"{where}: {len(twice)} words stand more than once ({shown})",
            "keep one row per word, or name the sense in brackets: address (postal)",
        )


def read_number(value: Any, where: str) -> float | None:
    """Read a rating; None where it is missing (empty, NA, #N/A, ...).

    Raises:
        InputError: the cell holds another text, or no finite number.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: found {short(value)}, not a number", "mend the cell or leave it empty") from None
    if not math.isfinite(number):
        return None
    return number
