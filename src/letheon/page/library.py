"""The papers of the shelf with their indexes: searched by words at once, by meaning once the vectors are there."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from letheon.core.errors import LetheonError
from letheon.page.entries import Entry
from letheon.page.query import Query, parse
from letheon.page.shelf import Shelf
from letheon.page.words import Words

if TYPE_CHECKING:
    from letheon.page.meaning import Meaning  # loads torch

DEEP = 200  # hits of each ranking that are fused
FUSION = 60  # constant of reciprocal rank fusion (Cormack et al., 2009)
_LOG = logging.getLogger(__name__)
LOADING = "Searched by words alone: the vectors for the search by meaning are still being computed."
WORDS_ALONE = "Searched by words alone: the site was started without an embedder."


@dataclass(frozen=True)
class Answer:
    """The result of a search.

    Attributes:
        entries: the papers, best first.
        corrected: words that were searched for others that no paper has, misspelt -> searched.
        note: why the search went by words alone; empty where it went by meaning too.
        milliseconds: how long it took.
    """

    entries: list[Entry]
    corrected: dict[str, str]
    note: str
    milliseconds: float


@dataclass
class Snapshot:
    """The papers at one revision of the shelf.

    Attributes:
        entries: every paper.
        words: their word index.
        meaning: their vectors; None until they are computed.
        note: why there is no search by meaning; empty where there is one.
        positions: where the papers stand on the map [papers, 2]; None until it is computed.
        failed: whether the vectors or the map could not be computed.
        places: the place of each key in `entries`.
    """

    revision: int
    entries: list[Entry]
    words: Words
    meaning: Meaning | None = None
    note: str = LOADING
    positions: NDArray[np.float64] | None = None
    failed: bool = False
    places: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = {entry.key: place for place, entry in enumerate(self.entries)}

    def search(self, text: str, limit: int = 50) -> Answer:
        """The papers that answer a search: words, `author:`, `year:2025`, `verdict:fails`, arXiv identifiers."""
        started = time.perf_counter()
        query = parse(text)
        corrected = {word: near for word in query.words if (near := self.words.corrected(word)) != word}
        entries = self._by_id(query) or [self.entries[place] for place in self._ranked(query, corrected)]
        allowed = list(islice((entry for entry in entries if query.allows(entry)), limit))
        return Answer(allowed, corrected, self.note, 1000 * (time.perf_counter() - started))

    def _by_id(self, query: Query) -> list[Entry]:
        return [entry for entry in self.entries if query.arxiv and entry.arxiv == query.arxiv]

    def _ranked(self, query: Query, corrected: dict[str, str]) -> Sequence[int]:
        if not query.words:
            newest = sorted(range(len(self.entries)), key=lambda i: self.entries[i].date, reverse=True)
            return [] if query.empty or query.arxiv else newest
        deep = len(self.entries) if query.fields else DEEP
        rankings = [self.words.search([corrected.get(word, word) for word in query.words], deep)]
        if self.meaning is not None and self.meaning.by_meaning:
            rankings.append(self.meaning.search(query.text, deep))
        scores: dict[int, float] = defaultdict(float)
        for ranking in rankings:
            for rank, place in enumerate(ranking):
                scores[place] += 1 / (FUSION + rank)
        return sorted(scores, key=lambda place: (-scores[place], place))

    def like(self, key: str, limit: int = 6) -> list[Entry]:
        """The papers most like one paper; none while the vectors are being computed."""
        if self.meaning is None or key not in self.places:
            return []
        return [self.entries[place] for place in self.meaning.like(self.places[key], limit)]


class Library:
    """The present snapshot of a shelf; the vectors are computed by a thread of its own.

    Args:
        shelf: where the papers are.
        embedder: name of an embedder of `letheon.recall.embedders`; `words` searches by words alone.
        cache: folder in which vectors are stored.
    """

    def __init__(self, shelf: Shelf, embedder: str, cache: Path) -> None:
        self.shelf, self.embedder, self.cache = shelf, embedder, cache
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._thread: threading.Thread | None = None

    def now(self) -> Snapshot:
        """The snapshot of the shelf as it is; its word index is made here if papers were added."""
        with self._lock:
            revision = self.shelf.revision()
            if self._snapshot is None or self._snapshot.revision != revision:
                entries = self.shelf.entries()
                self._snapshot = Snapshot(revision, entries, Words(entries))
                self._thread = threading.Thread(target=self._embed, args=(self._snapshot,), daemon=True)
                self._thread.start()
            return self._snapshot

    def ready(self) -> Snapshot:
        """The snapshot, once its vectors are there."""
        snapshot = self.now()
        if self._thread is not None:
            self._thread.join()
        return snapshot

    def _embed(self, snapshot: Snapshot) -> None:
        try:
            from letheon.page.meaning import load_meaning  # loads torch, for which no page waits

            note = WORDS_ALONE if self.embedder == "words" else ""
            try:
                snapshot.meaning = load_meaning(snapshot.entries, self.embedder, self.cache)
            except LetheonError as error:
                note = f"Searched by words alone: {error.problem}."
                snapshot.meaning = load_meaning(snapshot.entries, "words", self.cache)
            snapshot.positions = snapshot.meaning.positions()
            snapshot.note = note
        except Exception as error:  # a full disk, too little memory: the pages say so instead of waiting for ever
            _LOG.exception("the vectors of the papers could not be computed")
            snapshot.failed = True
            snapshot.note = f"Searched by words alone: the vectors could not be computed ({type(error).__name__})."
