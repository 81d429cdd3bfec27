"""Mem0 beside the policies of a memory: the same turns and the same embedder, on this machine and without a model.

`pip install mem0ai`. Turns are added with `infer=False`, as they are: its extraction of facts asks a language model,
which no other memory here has either. Its keyword search needs `fastembed` with a downloaded model, its entities need
spaCy with one: both are off, and its search is one by vectors. Its telemetry is switched off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError
from letheon.recall.embedders import Embedder
from letheon.recall.entries import Entry

USER = "benchmark"


class _Embeddings:
    """An embedder in the form in which Mem0 calls one."""

    config = None

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """Return the vector of a text."""
        return [float(value) for value in self.embedder.embed([text])[0]]

    def embed_batch(self, texts: Sequence[str], memory_action: str = "add") -> list[list[float]]:
        """Return the vectors of texts."""
        return [[float(value) for value in vector] for vector in self.embedder.embed(texts)]


class Mem0:
    """A Mem0 memory of a dialogue's turns, in a folder.

    Raises:
        InputError: Mem0 is not installed.
    """

    def __init__(self, turns: Sequence[Entry], embedder: Embedder, folder: Path) -> None:
        os.environ["MEM0_TELEMETRY"] = "False"
        os.environ["MEM0_DIR"] = str(folder)
        try:
            from mem0 import Memory
        except ImportError as error:
            raise InputError(f"Mem0 cannot be imported: {error}", "pip install mem0ai, or leave --mem0 out") from None
        unused: dict[str, Any] = {"provider": "openai", "config": {"api_key": "none"}}  # it insists on naming some
        place = {"path": str(folder / "qdrant"), "on_disk": True, "collection_name": USER}
        place["embedding_model_dims"] = embedder.width
        store = {"provider": "qdrant", "config": place}
        history = str(folder / "history.sqlite")
        settings = {"vector_store": store, "embedder": unused, "llm": unused, "history_db_path": history}
        self.memory = Memory.from_config(settings)
        self.memory.embedding_model = _Embeddings(embedder)
        self.count = len(turns)
        for place_of_turn, turn in enumerate(turns, start=1):
            said = [{"role": "user", "content": turn.text}]
            self.memory.add(said, user_id=USER, infer=False, metadata={"place": place_of_turn})

    def ranking(self, query: str) -> list[tuple[int, float]]:
        """Return places of turns, from 1, with their scores, best first."""
        found = self.memory.search(query, filters={"user_id": USER}, top_k=self.count, threshold=0.0)["results"]
        return [(int(one["metadata"]["place"]), float(one["score"])) for one in found]

    def close(self) -> None:
        """Close its files."""
        self.memory.vector_store.client.close()
        self.memory.close()
