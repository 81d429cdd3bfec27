"""The rows of a memory file in main memory, without their texts; new memories are appended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from letheon.core.errors import InputError

ROOM = 1.25  # rows that are allocated per row that is needed
FACTS = ("kind", "role", "session")
Fact = Literal["kind", "role", "session"]
Row = tuple[int, bytes, str, str, str]  # id, vector, and the facts


class Table:
    """Ids, vectors and facts in the order of the ids; appending copies new rows alone, but for rare reallocations.

    Args:
        width: width of the vectors.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self._ids = np.zeros(0, dtype=np.int64)
        self._vectors = np.zeros((0, width), dtype=np.float32)
        self._facts = np.zeros((0, len(FACTS)), dtype=np.int32)
        self._codes: dict[str, int] = {}  # by which `_facts` stands for texts

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids [rows]."""
        return self._ids[: self.count]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors [rows, width]."""
        return self._vectors[: self.count]

    def codes(self, fact: Fact) -> NDArray[np.int32]:
        """Return a number per row that stands for a fact [rows]: equal where the fact is."""
        return self._facts[: self.count, FACTS.index(fact)]

    def has(self, fact: Fact, *values: str) -> NDArray[np.bool_]:
        """Return whether a fact of each row is one of the values [rows]."""
        codes = self.codes(fact)
        return np.logical_or.reduce([codes == self._codes.get(value, -1) for value in values])

    def places(self, ids: Iterable[int]) -> NDArray[np.int64]:
        """Return the place of each id, -1 for one that is not in the table."""
        wanted = np.fromiter(ids, dtype=np.int64)
        places = np.searchsorted(self.ids, wanted)
        return np.where(np.append(self.ids, 0)[places] == wanted, places, -1)

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows with the bytes of their vectors (little-endian 32-bit floats); arrays given out before stay.

        Raises:
            InputError: a vector is damaged or has another width; no row was appended.
        """
        if (count := self.count + len(rows)) > len(self._ids):
            room = int(ROOM * count) - self.count
            for name in ("_ids", "_vectors", "_facts"):
                held = getattr(self, name)[: self.count]
                setattr(self, name, np.concatenate([held, np.zeros((room, *held.shape[1:]), held.dtype)]))
        for place, (number, vector, *facts) in enumerate(rows, start=self.count):
            if not isinstance(vector, bytes) or len(vector) != 4 * self._vectors.shape[1]:
                problem = f"memory {number} has no vector of {self._vectors.shape[1]} values"
                raise InputError(problem, "run `letheon memory reindex`, and open the file again")
            self._ids[place], self._vectors[place] = number, np.frombuffer(vector, dtype="<f4")
            self._facts[place] = [self._codes.setdefault(fact, len(self._codes)) for fact in facts]
        self.count = count

    def read(self, connection: sqlite3.Connection) -> bool:
        """Append what a file holds after the last row; return False, and append nothing, if rows were erased.

        It is one statement, since another process may write between two; ids grow and are never given twice.
        """
        wanted = f"SELECT held, id, vector, {', '.join(FACTS)}"
        held = "(SELECT count(*) AS held FROM memories)"
        after = (int(self.ids[-1]) if self.count else 0,)
        found = connection.execute(f"{wanted} FROM {held} LEFT JOIN memories ON id > ? ORDER BY id", after).fetchall()
        rows = [row for _, *row in found if row[0] is not None]
        if self.count + len(rows) != found[0][0]:
            return False
        self.append(rows)
        return True


def ranked(scores: NDArray[np.floating[Any]], places: NDArray[np.int64], k: int | None = None) -> NDArray[np.int64]:
    """Return some places in the order of their scores, best first, of equals the first one first; k, or all of them."""
    if k is not None and 0 < k < len(places):
        places = places[~(-scores[places] > np.partition(-scores[places], k - 1)[k - 1])]  # NaN is sorted last
    return places[np.argsort(-scores[places], kind="stable")][:k]
