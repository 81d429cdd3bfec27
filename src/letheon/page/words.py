"""The word index of the page: BM25 over titles, authors and abstracts, with prefixes and corrected typos."""

from __future__ import annotations

import re
import sqlite3
import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from letheon.page.entries import Entry

# How much a hit counts: key, title, authors, abstract.
WEIGHTS = (10.0, 8.0, 5.0, 1.0)
CANDIDATES = 60  # words whose edit distance to a misspelt word is computed
ENOUGH = 20  # papers with all words, below which those with some are looked for
SHORTEST = 4  # letters; shorter words are not corrected


class Words:
    """An index in memory.

    Args:
        entries: the papers; hits are their places in this list.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._lock = threading.Lock()
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute(
            "CREATE VIRTUAL TABLE papers USING fts5 (key, title, authors, abstract, "
            "tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3')"
        )
        rows = [
            (place, entry.key.replace("-", " "), entry.title, ", ".join(entry.authors), entry.abstract)
            for place, entry in enumerate(entries)
        ]
        weights = ", ".join(map(str, WEIGHTS))
        with self._index:
            self._index.execute("INSERT INTO papers (papers, rank) VALUES ('rank', ?)", (f"bm25({weights})",))
            self._index.executemany(
                "INSERT INTO papers (rowid, key, title, authors, abstract) VALUES (?, ?, ?, ?, ?)", rows
            )
        self._counts = Counter(word for row in rows for text in row[1:] for word in words_of(str(text)))
        self._by_trigram: dict[str, list[str]] = defaultdict(list)
        for word in self._counts:
            for trigram in trigrams(word):
                self._by_trigram[trigram].append(word)

    def search(self, words: Sequence[str], limit: int) -> list[int]:
        """The places of the papers that contain the words, best first; beginnings count where no paper has the word.

        Papers that contain all words come first; where they are few, those that contain some follow.
        """
        if not words:
            return []
        whole = [f'"{word}"' if self._has(f'"{word}"') else f'"{word}"*' for word in words[:-1]]
        terms = [*whole, f'("{words[-1]}" OR "{words[-1]}"*)']  # the last word may not be finished
        hits = self._query(" AND ".join(terms), limit)
        if len(hits) < min(limit, ENOUGH) and len(terms) > 1:
            seen = set(hits)
            hits += [place for place in self._query(" OR ".join(terms), limit) if place not in seen]
        return hits[:limit]

    def _query(self, expression: str, limit: int) -> list[int]:
        query = "SELECT rowid FROM papers WHERE papers MATCH ? ORDER BY rank LIMIT ?"
        with self._lock:
            return [row[0] for row in self._index.execute(query, (expression, limit))]

    def _has(self, expression: str) -> bool:
        with self._lock:
            query = "SELECT 1 FROM papers WHERE papers MATCH ? LIMIT 1"
            return self._index.execute(query, (expression,)).fetchone() is not None

    def corrected(self, word: str) -> str:
        """The nearest word of the index for a word that no paper has; the word itself if none is near.

        One edit is forgiven in words of four to seven letters, two in longer ones; an edit inserts, deletes, replaces
        or swaps letters.
        """
        if len(word) < SHORTEST or self._has(f'"{word}" OR "{word}"*'):
            return word
        shared = Counter(near for trigram in trigrams(word) for near in self._by_trigram.get(trigram, ()))
        limit = 1 if len(word) <= 7 else 2
        candidates = [near for near, _ in shared.most_common(CANDIDATES) if abs(len(near) - len(word)) <= limit]
        ranked = sorted((distance(word, near), -self._counts[near], near) for near in candidates)
        return ranked[0][2] if ranked and ranked[0][0] <= limit else word


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without accents."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", bare)


def trigrams(word: str) -> set[str]:
    """The runs of three letters in a word, with its beginning and its end marked."""
    marked = f"^{word}$"
    return {marked[i : i + 3] for i in range(len(marked) - 2)}


def distance(one: str, other: str) -> int:
    """The number of inserted, deleted, replaced and swapped letters between two words."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, compared in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != compared))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == compared:
                best = min(best, earlier[j - 2] + 1)
            row.append(best)
    return row[-1]
