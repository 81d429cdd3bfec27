"""How quickly a memory writes and searches, and how much of the evidence its policies show at equal tokens.

    python -m benchmarks.memory [--json] [--memories 100000] [--locomo FILE]

`search_p95_ms` and `write_p95_ms` are measured on a file of random unit vectors of width 384 with texts of twelve
words; a write is one turn, flushed to disk. `recall_at_10` compares the search by meaning with an exact one. With
LoCoMo's file (CC BY-NC 4.0, not shipped) `evidence_recall` says for each policy which share of a question's evidence
turns is in the context of `--budget` tokens (words times 4/3); questions without evidence are left out.
`evidence_recall_ratio` is the best policy's share over that of the plain search by vectors.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from letheon.recall.embedders import Embedder, load_embedder, unit
from letheon.recall.policies import Name, Settings, choose, fit
from letheon.recall.store import Entry, Store

WIDTH = 384
POLICIES: tuple[Name, ...] = ("window", "vector", "words", "fused", "rhea", "lifelong")


def speed(count: int, queries: int = 200, seed: int = 0) -> dict[str, float]:
    """Fill a file with random memories and time writes and searches."""
    draw = np.random.default_rng(seed)
    words = np.array([f"word{i}" for i in range(20_000)])
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "m.sqlite", "random", WIDTH)
        for start in range(0, count, 5000):
            size = min(5000, count - start)
            texts = [" ".join(row) for row in words[draw.integers(len(words), size=(size, 12))]]
            store.add([Entry(text) for text in texts], unit(draw.normal(size=(size, WIDTH)).astype(np.float32)))
        asked = unit(draw.normal(size=(queries, WIDTH)).astype(np.float32))
        ids, matrix = store.vectors()
        taken, hits = [], []
        for query in asked:
            begin = time.perf_counter()
            nearest = store.nearest(query, 10)
            taken.append(time.perf_counter() - begin)
            exact = set(ids[np.argsort(-(matrix.astype(np.float64) @ query))[:10]].tolist())
            hits.append(len(exact & {i for i, _ in nearest}) / 10)
        by_words = [
            _seconds(lambda: store.matching(" ".join(words[draw.integers(len(words), size=5)]), 10))
            for _ in range(queries)
        ]
        vectors = unit(draw.normal(size=(queries, 1, WIDTH)).astype(np.float32))
        writes = [_seconds(lambda i=i: store.add([Entry(f"turn {i}")], vectors[i])) for i in range(queries)]
        return {
            "memories": count,
            "search_p95_ms": 1000 * float(np.quantile(taken, 0.95)),
            "words_p95_ms": 1000 * float(np.quantile(by_words, 0.95)),
            "write_p95_ms": 1000 * float(np.quantile(writes, 0.95)),
            "recall_at_10": float(np.mean(hits)),
        }


def _seconds(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def evidence_recall(file: Path, embedder: Embedder, budget: int, conversations: int) -> dict[str, float]:
    """Return the share of evidence turns that each policy shows, averaged over the questions of LoCoMo."""
    data = json.loads(file.read_text(encoding="utf-8"))[:conversations]
    shares: dict[str, list[float]] = {name: [] for name in POLICIES}
    for number, sample in enumerate(data):
        with tempfile.TemporaryDirectory() as scratch:
            store = Store(Path(scratch) / "m.sqlite", embedder.name, embedder.width)
            turns = _turns(sample["conversation"])
            store.add([entry for _, entry in turns], embedder.embed([entry.text for _, entry in turns]))
            numbers = {name: i for i, (name, _) in enumerate(turns, start=1)}
            for asked in sample["qa"]:
                evidence = {numbers[name] for name in asked.get("evidence", []) if name in numbers}
                if evidence:
                    for name in POLICIES:
                        shown = _shown(name, store, embedder, asked["question"], budget)
                        shares[name].append(len(evidence & shown) / len(evidence))
        print(f"conversation {number + 1} of {len(data)}", file=sys.stderr, flush=True)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def _turns(conversation: dict[str, Any]) -> list[tuple[str, Entry]]:
    """Return all turns with their names, oldest first; the session's date stands before the speaker's words."""
    turns, session = [], 1
    while f"session_{session}" in conversation:
        date = conversation[f"session_{session}_date_time"]
        for turn in conversation[f"session_{session}"]:
            entry = Entry(f"({date}) {turn['speaker']}: {turn['text']}", turn["speaker"], session=str(session))
            turns.append((turn["dia_id"], entry))
        session += 1
    return turns


def _shown(name: Name, store: Store, embedder: Embedder, question: str, budget: int) -> set[int]:
    """Return the numbers of the memories that a policy shows within the budget; every policy may fill it."""
    settings = Settings(k=10_000, recent=1, low=-1.0, high=-1.0)  # the budget alone decides how many
    placed = choose(name, store, embedder, question, settings)
    if name == "window":
        placed = [type(one)(one.exchange, float(t), one.treatment, one.reason) for t, one in enumerate(placed)]
    placed = fit(placed, budget, lambda one: 0 if one.treatment == "left out" else _tokens(one.exchange.entries))
    return {entry.id for one in placed if one.treatment != "left out" for entry in one.exchange.entries}


def _tokens(entries: Sequence[Entry]) -> int:
    return sum(-(-len(entry.text.split()) * 4 // 3) for entry in entries)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options.add_argument("--memories", type=int, default=100_000, help="memories of the timed file (default 100000)")
    options.add_argument("--locomo", type=Path, help="locomo10.json; without it evidence recall is left out")
    options.add_argument("--conversations", type=int, default=10, help="conversations of LoCoMo (default all ten)")
    options.add_argument("--budget", type=int, default=500, help="tokens of the context (default 500)")
    options.add_argument("--embedder", default="minilm", help="minilm (default), words, model:NAME or a folder")
    chosen = options.parse_args()
    figures: dict[str, Any] = speed(chosen.memories)
    if chosen.locomo is not None:
        shares = evidence_recall(chosen.locomo, load_embedder(chosen.embedder), chosen.budget, chosen.conversations)
        figures["evidence_recall"] = shares
        figures["evidence_recall_ratio"] = max(shares.values()) / shares["vector"]
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
