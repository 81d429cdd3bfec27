"""The vectors of a memory file in main memory, to which new memories are appended."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ROOM = 1.25  # rows that are allocated per row that is needed


class VectorTable:
    """Ids and vectors in the order of the ids; appending copies the new rows alone, but for rare reallocations.

    Args:
        width: width of the vectors.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self._ids = np.zeros(0, dtype=np.int64)
        self._vectors = np.zeros((0, width), dtype=np.float32)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids [rows]."""
        return self._ids[: self.count]

    @property
    def last(self) -> int:
        """The last id, 0 without any."""
        return int(self._ids[self.count - 1]) if self.count else 0

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors [rows, width]."""
        return self._vectors[: self.count]

    def append(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Append ids with the bytes of their vectors (little-endian 32-bit floats); arrays given out before stay."""
        count, width = self.count + len(rows), self._vectors.shape[1]
        if count > len(self._ids):
            ids, vectors = self.ids, self.vectors
            self._ids = np.zeros(int(ROOM * count), dtype=np.int64)
            self._vectors = np.zeros((int(ROOM * count), width), dtype=np.float32)
            self._ids[: self.count], self._vectors[: self.count] = ids, vectors
        self._ids[self.count : count] = [i for i, _ in rows]
        held = np.frombuffer(b"".join(vector for _, vector in rows), dtype="<f4")
        self._vectors[self.count : count] = held.reshape(len(rows), width)
        self.count = count


def vectors_after(connection: sqlite3.Connection, last: int) -> tuple[int, list[tuple[int, bytes]]]:
    """Return the number of all memories, and id and vector of those after `last`; ids grow and are never given twice.

    It is one statement, since another process may write between two.
    """
    read = "SELECT held, id, vector FROM (SELECT count(*) AS held FROM memories) LEFT JOIN memories ON id > ?"
    rows = connection.execute(f"{read} ORDER BY id", (last,)).fetchall()
    return rows[0][0], [(number, vector) for _, number, vector in rows if number is not None]
