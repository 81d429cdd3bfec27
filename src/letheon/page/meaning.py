"""Vectors of the papers by meaning, in one matrix, and what is computed from it: search, likeness, the map."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from letheon.page.entries import Entry
from letheon.recall.embedders import Embedder, load_embedder, unit

LEAST = 0.25  # cosine below which a paper does not answer a search
LARGEST_TSNE = 2000  # papers; more are laid out by their principal components
PIECE = 256  # papers that are embedded between two writes


class Meaning:
    """The vectors of a list of papers.

    Args:
        entries: the papers; rows of the matrix are in their order.
        embedder: turns texts into vectors of length 1.
        stored: file of vectors by the hash of their text; None stores nothing.
    """

    def __init__(self, entries: Sequence[Entry], embedder: Embedder, stored: Path | None = None) -> None:
        self.embedder = embedder
        self.by_meaning = embedder.name != "words"
        self.matrix = _vectors([f"{entry.title}. {entry.abstract}" for entry in entries], embedder, stored)
        self._embed_query = lru_cache(maxsize=256)(lambda text: self.embedder.embed([text])[0])

    def search(self, text: str, limit: int) -> list[int]:
        """The places of the papers nearest in meaning to a text, best first."""
        return self._nearest(self.matrix @ self._embed_query(text), limit)

    def like(self, place: int, limit: int) -> list[int]:
        """The places of the papers most like one paper, best first, without itself."""
        cosines = self.matrix @ self.matrix[place]
        cosines[place] = -1
        return self._nearest(cosines, limit)

    def _nearest(self, cosines: NDArray[np.float32], limit: int) -> list[int]:
        limit = min(limit, len(cosines))
        best = np.argpartition(-cosines, limit - 1)[:limit] if limit else np.zeros(0, dtype=int)
        least = LEAST if self.by_meaning else 1e-6
        return [int(place) for place in best[np.argsort(-cosines[best], kind="stable")] if cosines[place] >= least]

    def positions(self) -> NDArray[np.float64]:
        """A place in the unit square per paper [papers, 2], near where the meaning is near; always the same."""
        return layout(self.matrix)


@cache
def embedder_of(name: str) -> Embedder:
    """Load an embedder once per process."""
    return load_embedder(name)


def load_meaning(entries: Sequence[Entry], name: str, folder: Path) -> Meaning:
    """Load an embedder by its name and embed the papers.

    Raises:
        LetheonError: the embedder cannot be loaded.
    """
    return Meaning(entries, embedder_of(name), folder / "page-vectors.sqlite")


def layout(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Lay vectors [n, width] out in the unit square [n, 2] by t-SNE from principal components, deterministically.

    More than `LARGEST_TSNE` vectors are laid out by their two principal components.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count, width = vectors.shape
    if count < 4:
        return np.array([[(i + 1) / (count + 1), 0.5] for i in range(count)], dtype=np.float64).reshape(count, 2)
    places = PCA(min(2 if count > LARGEST_TSNE else 50, count - 1, width), svd_solver="full").fit_transform(vectors)
    if count <= LARGEST_TSNE:
        places = TSNE(2, perplexity=min(30, (count - 1) / 4), init="pca", random_state=0).fit_transform(places)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / np.where(high > low, high - low, 1), dtype=np.float64)


def _vectors(texts: Sequence[str], embedder: Embedder, file: Path | None) -> NDArray[np.float32]:
    """One vector per text; those that are in the cache are read from it."""
    hashes = [hashlib.sha256(f"{embedder.name}\n{text}".encode()).hexdigest() for text in texts]
    with closing(_open(file)) as connection:
        stored = dict(connection.execute("SELECT hash, vector FROM vectors")) if texts else {}
        missing = [i for i, key in enumerate(hashes) if len(stored.get(key, b"")) != 4 * embedder.width]
        for start in range(0, len(missing), PIECE):
            piece = missing[start : start + PIECE]
            for i, vector in zip(piece, embedder.embed([texts[i] for i in piece]), strict=True):
                stored[hashes[i]] = unit(vector[None])[0].astype("<f4").tobytes()
            with connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?)", [(hashes[i], stored[hashes[i]]) for i in piece]
                )
    joined = b"".join(stored[key] for key in hashes)
    return np.frombuffer(joined, dtype="<f4").reshape(len(texts), embedder.width).astype(np.float32)


def _open(file: Path | None) -> sqlite3.Connection:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file or ":memory:", timeout=30)
    connection.execute("CREATE TABLE IF NOT EXISTS vectors (hash TEXT PRIMARY KEY, vector BLOB NOT NULL)")
    return connection
