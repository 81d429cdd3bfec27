"""How quickly a memory writes and searches, how much evidence its policies show, and what a model answers with it.

    python -m benchmarks.memory [--json] [--memories 100000] [--dialogues FILE] [--answers MODEL --limit 50]

`search_p95_ms` and `write_p95_ms` are measured on a file of random unit vectors of width 384 with texts of twelve
words; a write is one turn, flushed to disk. `search_after_write_p95_ms` is of a search right after a write.
`recall_at_10` compares the search by meaning with an exact one. `turn_p95_ms` is of a whole turn per policy on the same
file: `Memory.context` for a question that no turn has asked yet, embedded by all-MiniLM-L6-v2, and `Memory.observe` of
it; `context_p95_ms` is the slowest of these. `lifelong`, which reads every memory, is not among them.

With a file of LoCoMo or LongMemEval (see `benchmarks.dialogues`; not shipped), for each policy: `evidence_recall`, the
share of a question's evidence turns that is in the context of `--budget` tokens (words times 4/3; questions without
evidence are left out); `tokens` of that context; `ms` per question, of which embedding the question is a part; and
`abstention_auroc`, how well the score of the best exchange tells questions that can be answered from those that cannot
(.5 is chance; `window` has no score). `evidence_recall_ratio` is the best policy's recall over that of the plain search
by vectors. `--answers MODEL` asks a model with each policy's context: `answer_f1` by LoCoMo's rules on questions that
can be answered, `abstained` the share of the others on which it says that it does not know, `false_abstained` the share
of the former. No judge is asked. `--mem0` adds Mem0 on the same turns and embeddings (see `benchmarks.mem0_peer`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dialogues import Dialogue, Question, abstains, answer_f1, read_dialogues
from benchmarks.mem0_peer import Mem0
from letheon.recall.embedders import Embedder, load_embedder, unit
from letheon.recall.entries import Entry
from letheon.recall.memory import Memory
from letheon.recall.policies import Name, Placed, Settings, choose, fit
from letheon.recall.quoting import FENCE, fenced
from letheon.recall.store import Store

WIDTH = 384
POLICIES: tuple[Name, ...] = ("window", "vector", "words", "fused", "rhea", "lifelong")


def speed(count: int, queries: int = 200, seed: int = 0) -> dict[str, Any]:
    """Fill a file with random memories and time writes, searches and whole turns."""
    draw = np.random.default_rng(seed)
    words = np.array([f"word{i}" for i in range(20_000)])
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch) / "m.sqlite", "minilm", WIDTH)
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
        writes, fresh = [], []  # in a conversation every search follows a write
        for i, query in enumerate(asked):
            writes.append(_seconds(lambda i=i: store.add([Entry(f"turn {i}")], vectors[i])))
            fresh.append(_seconds(lambda query=query: store.nearest(query, 10)))
        store.close()
        turns = turn_times(store.path)
        return {
            "memories": count,
            "search_p95_ms": 1000 * float(np.quantile(taken, 0.95)),
            "search_after_write_p95_ms": 1000 * float(np.quantile(fresh, 0.95)),
            "words_p95_ms": 1000 * float(np.quantile(by_words, 0.95)),
            "write_p95_ms": 1000 * float(np.quantile(writes, 0.95)),
            "recall_at_10": float(np.mean(hits)),
            "context_p95_ms": max(turns.values()),
            "turn_p95_ms": turns,
        }


def turn_times(path: Path, turns: int = 40) -> dict[str, float]:
    """Return the 95th percentile of a whole turn in ms for each policy but `lifelong`."""
    embedder, figures = load_embedder("minilm"), {}
    for policy in (name for name in (*POLICIES, "full") if name != "lifelong"):
        with Memory(path, embedder, policy) as memory:
            memory.context("The first turn reads all vectors.")
            asked = [f"What about word{i} and word{7 * i}, for {policy}?" for i in range(turns)]
            taken = [_seconds(lambda said=said: (memory.context(said, 500), memory.observe(said))) for said in asked]
        figures[policy] = 1000 * float(np.quantile(taken, 0.95))
    return figures


def _seconds(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


Answering = Callable[[list[dict[str, str]]], str]
ASK = "Answer the question in a few words, from the notes alone. If they do not hold it, say: No information available."


def evidence(
    dialogues: Sequence[Dialogue],
    embedder: Embedder,
    budget: int,
    answering: Answering | None = None,
    limit: int | None = None,
    mem0: bool = False,
) -> dict[str, dict[str, float]]:
    """Return for each policy the averages of its figures over all questions, or over the first `limit` ones.

    Args:
        mem0: also measure Mem0.

    Raises:
        InputError: Mem0 is not installed.
    """
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (*POLICIES, *(["mem0"] if mem0 else []))}
    asked = 0
    for number, dialogue in enumerate(dialogues):
        with tempfile.TemporaryDirectory() as scratch:
            store = Store(Path(scratch) / "m.sqlite", embedder.name, embedder.width)
            store.add(dialogue.turns, embedder.embed([entry.text for entry in dialogue.turns]))
            peer = Mem0(dialogue.turns, embedder, Path(scratch)) if mem0 else None
            for question in dialogue.questions[: None if limit is None else max(0, limit - asked)]:
                asked += 1
                for name in POLICIES:
                    rows[name].append(_row(name, store, embedder, question, budget, answering))
                if peer is not None:
                    rows["mem0"].append(_mem0_row(peer, store, question, budget, answering))
            store.close()
            if peer is not None:
                peer.close()
        print(f"dialogue {number + 1} of {len(dialogues)}", file=sys.stderr, flush=True)
    return {name: _averages(values) for name, values in rows.items()}


def _row(
    name: Name, store: Store, embedder: Embedder, question: Question, budget: int, answering: Answering | None
) -> dict[str, float]:
    """Measure one policy on one question; every policy may fill the budget."""
    begin = time.perf_counter()
    settings = Settings(k=10_000, recent=1, low=-1.0, high=-1.0)  # the budget alone decides how many
    asked = max((entry.created for entry in store.entries()), default=0.0)  # when the dialogue ended
    choice = choose(name, store, embedder, question.text, settings, asked)
    score = 0.0 if name == "window" else float(max(choice.scores, default=0.0))
    placed = fit(choice.placed, budget, _cost, name != "window")
    shown = [entry for one in placed if one.treatment != "left out" for entry in one.exchange.entries]
    return _figures(shown, question, 1000 * (time.perf_counter() - begin), score, answering)


def _mem0_row(
    peer: Mem0, store: Store, question: Question, budget: int, answering: Answering | None
) -> dict[str, float]:
    """Measure Mem0 on one question: its best turns, as many as the budget holds."""
    begin = time.perf_counter()
    ranking, left, places = peer.ranking(question.text), budget, []
    turns = {entry.id: entry for entry in store.entries()}
    for place, _ in ranking:
        if (left := left - _tokens(turns[place])) < 0:
            break
        places.append(place)
    seconds = time.perf_counter() - begin
    shown = [turns[place] for place in sorted(places)]
    return _figures(shown, question, 1000 * seconds, ranking[0][1] if ranking else 0.0, answering)


def _figures(
    shown: Sequence[Entry], question: Question, ms: float, score: float, answering: Answering | None
) -> dict[str, float]:
    """Compare the turns that a model is shown with the evidence, and its answer with the right one."""
    row = {"ms": ms, "tokens": float(sum(map(_tokens, shown)))}
    row |= {"answerable": float(question.answerable), "score": score}
    if question.evidence:
        row["evidence_recall"] = len(question.evidence & {entry.id for entry in shown}) / len(question.evidence)
    if answering is not None:
        system = "\n".join((ASK, FENCE, *(fenced(entry, entry.text) for entry in shown)))
        answer = answering([{"role": "system", "content": system}, {"role": "user", "content": question.text}])
        row["false_abstained" if question.answerable else "abstained"] = float(abstains(answer))
        if question.answerable:
            row["answer_f1"] = answer_f1(answer, question)
    return row


def _averages(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    names = ("evidence_recall", "tokens", "ms", "answer_f1", "abstained", "false_abstained")
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    figures = {name: float(np.mean(values)) for name, values in columns.items() if values}
    answerable = [row["answerable"] for row in rows]
    if len(set(answerable)) == 2:
        figures["abstention_auroc"] = float(roc_auc_score(answerable, [row["score"] for row in rows]))
    return figures


def _tokens(entry: Entry) -> int:
    return -(-len(entry.text.split()) * 4 // 3)


def _cost(one: Placed) -> int:
    return 0 if one.treatment == "left out" else sum(map(_tokens, one.exchange.entries))


def model_answering(name: str, max_new_tokens: int = 24) -> Answering:
    """Load a model and return the function that answers messages."""
    from letheon.core.model.models import load
    from letheon.recall.conversation import model_answers

    answers = model_answers(load(name), max_new_tokens)
    return lambda messages: "".join(answers(messages)).strip()


def dialogue_figures(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure the policies on a file of dialogues, as the options say."""
    dialogues = list(read_dialogues(chosen.dialogues, chosen.conversations))
    answering = model_answering(chosen.answers) if chosen.answers else None
    policies = evidence(dialogues, load_embedder(chosen.embedder), chosen.budget, answering, chosen.limit, chosen.mem0)
    recalls = {name: figures["evidence_recall"] for name, figures in policies.items() if "evidence_recall" in figures}
    ratio = max(recalls.values()) / recalls["vector"] if recalls.get("vector") else None
    return {"policies": policies, "evidence_recall_ratio": ratio}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options.add_argument(
        "--memories", type=int, default=100_000, help="memories of the timed file (default 100000; 0: none)"
    )
    options.add_argument("--dialogues", "--locomo", type=Path, help="a file of LoCoMo or LongMemEval")
    options.add_argument("--conversations", type=int, help="dialogues that are read (default all)")
    options.add_argument("--limit", type=int, help="questions that are asked (default all)")
    options.add_argument("--mem0", action="store_true", help="also measure Mem0 (pip install mem0ai)")
    options.add_argument("--budget", type=int, default=500, help="tokens of the context (default 500)")
    options.add_argument("--embedder", default="minilm", help="minilm (default), words, model:NAME or a folder")
    options.add_argument("--answers", help="a model that answers the questions with each policy's context")
    chosen = options.parse_args()
    figures: dict[str, Any] = speed(chosen.memories) if chosen.memories else {}
    if chosen.dialogues is not None:
        figures |= dialogue_figures(chosen)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
