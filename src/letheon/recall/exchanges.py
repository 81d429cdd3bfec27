"""Exchanges: users' turns with the replies to them, joined from entries or, before these are read, from a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from letheon.recall.entries import Entry
from letheon.recall.store import Store
from letheon.recall.table import Table

BATCH = 32  # exchanges that are read at once


@dataclass(frozen=True)
class Exchange:
    """A user's turn and the reply to it (either may be missing), or a note."""

    entries: tuple[Entry, ...]

    @property
    def said(self) -> str:
        """The words of everybody but the assistant."""
        return " ".join(entry.text for entry in self.entries if entry.role != "assistant")

    @property
    def reply(self) -> str:
        """The assistant's words."""
        return " ".join(entry.text for entry in self.entries if entry.role == "assistant")


def joined(
    turn: NDArray[np.bool_], reply: NDArray[np.bool_], session: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of entries, those of an exchange side by side, and where in this order exchanges begin.

    A reply follows the turn before it in its session, whatever other sessions say in between; all else begins an
    exchange. Exchanges stand in the order of their first entries.

    Args:
        turn: whether each entry is a turn; a note stands alone.
        reply: whether the assistant said it.
        session: a number that stands for its session.
    """
    order = np.argsort(session, kind="stable")
    turn, reply, session = turn[order], reply[order], session[order]
    follows = reply[1:] & turn[1:] & turn[:-1] & (session[1:] == session[:-1])
    begins = np.append([True], ~follows)[: len(order)]
    by_first = np.argsort(order[begins][np.cumsum(begins) - 1], kind="stable")
    return order[by_first], np.flatnonzero(begins[by_first])


def exchanges(entries: Sequence[Entry]) -> list[Exchange]:
    """Join each user's turn with the replies that follow it in its session; a note stands alone."""
    codes: dict[str, int] = {}
    turn = np.array([entry.kind == "turn" for entry in entries], dtype=bool)
    reply = np.array([entry.role == "assistant" for entry in entries], dtype=bool)
    session = np.array([codes.setdefault(entry.session, len(codes)) for entry in entries], dtype=np.int64)
    order, starts = joined(turn, reply, session)
    return [Exchange(tuple(entries[t] for t in order[i:j])) for i, j in pairwise([*starts.tolist(), len(entries)])]


class Outline:
    """The exchanges of a memory, the oldest first, without their texts.

    Args:
        table: the memory's rows.
        alone: ids of memories that stand before the exchanges, each for itself; those not in the table are left out.
    """

    def __init__(self, table: Table, alone: Sequence[int] = ()) -> None:
        turn, reply, session = table.has("kind", "turn"), table.has("role", "assistant"), table.codes("session")
        first, said = table.places(alone), np.flatnonzero(table.has("kind", "turn", "note"))
        order, starts = joined(turn[said], reply[said], session[said])
        first = first[first >= 0]
        self.table, self.rows = table, np.concatenate([first, said[order]])
        self.starts = np.concatenate([np.arange(len(first)), len(first) + starts])
        self.ids = table.ids[self.rows]

    def __len__(self) -> int:
        return len(self.starts)

    def best(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return per exchange the largest value of its entries, from a value per row of the table."""
        return np.maximum.reduceat(values[self.rows], self.starts).astype(np.float64) if len(self) else np.zeros(0)

    def best_of(self, scores: Mapping[int, float]) -> NDArray[np.float64]:
        """Return per exchange the largest score of its entries, from scores by id; an entry without one has 0."""
        places, values = self.table.places(scores), np.zeros(self.table.count)
        values[places[places >= 0]] = np.fromiter(scores.values(), dtype=np.float64)[places >= 0]
        return self.best(values)

    def are_turns(self, session: str) -> bool:
        """Return whether all exchanges are turns of a session that begin with a user's."""
        table, first = self.table, self.rows[self.starts]
        turns = table.has("kind", "turn") & table.has("session", session) & ~table.has("role", "assistant")
        return bool(turns[first].all())

    def read(self, store: Store, places: Sequence[int]) -> Iterator[tuple[int, Exchange]]:
        """Yield places with their exchanges, read a few at a time; what was erased meanwhile is left out."""
        ends = np.append(self.starts[1:], len(self.ids))
        for begin in range(0, len(places), BATCH):
            ids = [self.ids[self.starts[t] : ends[t]].tolist() for t in places[begin : begin + BATCH]]
            held = {entry.id: entry for entry in store.entries(i for own in ids for i in own)}
            for place, own in zip(places[begin : begin + BATCH], ids, strict=True):
                if found := tuple(held[i] for i in own if i in held):
                    yield place, Exchange(found)
