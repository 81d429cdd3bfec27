"""What a policy chooses among many memories is what weighing every exchange in turn would choose."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from letheon.recall.embedders import HashedWords
from letheon.recall.entries import Entry
from letheon.recall.exchanges import BATCH, Exchange, Outline, exchanges
from letheon.recall.lifelong.consolidation import consolidate
from letheon.recall.lifelong.memory import lifelong_scores, standing_beliefs
from letheon.recall.lifelong.nodes import read_nodes
from letheon.recall.lifelong.settings import LifelongSettings
from letheon.recall.lifelong.valence import tag
from letheon.recall.memory import Memory
from letheon.recall.policies import BACK_REFERENCE, Name, Placed, Settings, Treatment, choose, fit
from letheon.recall.ranking import reciprocal_ranks
from letheon.recall.store import Store

WORDS = HashedWords()
SAID = [
    f"{a} {b} {c}." for a in ("Bees", "Ships", "Trams") for b in ("sail", "hum", "stop") for c in ("late", "in Brno")
]
NOW = 400 * 86_400.0  # when the oldest memories are dormant


def random_memory(path: Path, seed: int, size: int = 90) -> Memory:
    """Fill a file with turns of three sessions, notes, rules, and replies to replies; many say the same. Erase some."""
    draw, memory = random.Random(seed), Memory(path, "words", session="today")
    entries = []
    for number in range(size):
        kind = draw.choices(("turn", "note", "instruction", "summary"), (12, 2, 1, 1))[0]
        role = draw.choice(("user", "assistant", "assistant", "Ilse")) if kind != "instruction" else "user"
        text = " ".join(draw.choices(SAID, k=draw.randint(1, 4)))
        session = draw.choice(("today", "today", "before", "long ago"))
        details = {"attribute": f"topic: {number}"} if kind == "instruction" else {}
        entries.append(Entry(text, role, kind, session, None, 86_400.0 * number, details))
    memory.store.add(entries, WORDS.embed([entry.text for entry in entries]))
    memory.forget(ids=draw.sample(range(1, size + 1), 9))
    return memory


def joined(entries: list[Entry]) -> list[Exchange]:
    """The definition of exchanges, one entry after the other."""
    parts: list[list[Entry]] = []
    last: dict[str, list[Entry]] = {}
    for entry in entries:
        before = last.get(entry.session)
        if before and entry.role == "assistant" and before[-1].kind == entry.kind == "turn":
            before.append(entry)
        else:
            parts.append([entry])
            last[entry.session] = parts[-1]
    return [Exchange(tuple(part)) for part in parts]


def weighed(name: Name, store: Store, query: str, settings: Settings) -> list[Placed]:
    """The definition of the policies: every exchange with its score, its treatment, and why."""
    every = joined([entry for entry in store.entries() if entry.kind in ("turn", "note")])
    nodes = read_nodes(store, tag)
    if name == "lifelong":
        every = [*(Exchange((belief,)) for belief in standing_beliefs(nodes)), *every]
    ids, matrix = store.vectors()

    def best(scores: dict[int, float]) -> list[float]:
        return [max(scores.get(entry.id, 0.0) for entry in one.entries) for one in every]

    cosines = best(dict(zip(ids.tolist(), (matrix @ WORDS.embed([query])[0]).tolist(), strict=True)))
    by_words, last = best(dict(store.matching(query, 10**6))), len(every) - 1
    match name:
        case "rhea":
            bonus = settings.back_reference if BACK_REFERENCE.search(query) else 0.0
            ages = [math.exp(-(last - t) / settings.horizon) for t in range(len(every))]
            scores = [c + settings.recency * age + bonus for c, age in zip(cosines, ages, strict=True)]
        case "lifelong":
            scores = best(lifelong_scores(store, nodes, WORDS, query, NOW))
        case "window" | "full":
            scores = [float(t) for t in range(len(every))]
        case "vector":
            scores = cosines
        case "words":
            scores = by_words
        case "fused":
            nearest = sorted(range(len(every)), key=lambda t: -cosines[t])
            matching = [t for t in sorted(range(len(every)), key=lambda t: -by_words[t]) if by_words[t] > 0]
            fused = dict(reciprocal_ranks([nearest, matching]))
            scores = [fused[t] for t in range(len(every))]
    top = set(sorted(range(len(every)), key=lambda t: -scores[t])[: settings.k])

    def treatment(t: int) -> Treatment:
        if name == "full" or t > last - (settings.k if name == "window" else settings.recent):
            return "whole"
        if name == "rhea":
            return "whole" if scores[t] >= settings.high else "compressed" if scores[t] >= settings.low else "left out"
        return "whole" if name != "window" and t in top and scores[t] > 0 else "left out"

    def reason(t: int) -> str:
        if name in ("window", "full"):
            return f"{name}, the oldest go first"
        return "one of the last exchanges" if t > last - settings.recent else f"{name} score {scores[t]:.2f}"

    return [Placed(one, scores[t], treatment(t), reason(t), t) for t, one in enumerate(every)]


def demoted(placed: list[Placed], budget: int, cost: Callable[[Placed], int], compressing: bool) -> list[Placed]:
    """The definition of the budget: one exchange after the other is demoted, the lowest score first."""
    total = sum(map(cost, placed))
    steps: list[tuple[Treatment, Treatment]] = [("whole", "compressed"), ("compressed", "left out")]
    for treatment, then in steps if compressing else [("whole", "left out")]:  # type: ignore[assignment]
        for t in sorted(range(len(placed)), key=lambda t: placed[t].score):
            one = placed[t]
            if total > budget and one.treatment == treatment:
                placed[t] = Placed(one.exchange, one.score, then, f"{one.reason}; the budget demoted it", t)
                total += cost(placed[t]) - cost(one)
    return placed


def cost(one: Placed) -> int:
    reply = len(one.exchange.reply) // (3 if one.treatment == "compressed" else 1)
    return 0 if one.treatment == "left out" else 1 + len(one.exchange.said) + reply


QUERIES = ("Do bees hum in Brno?", "What did I say before about ships?", "Zzz?", "?")
SETTINGS = (Settings(), Settings(k=3, recent=0, high=0.7, low=0.4), Settings(k=40, recent=4, high=0.3, low=-1.0))


@pytest.mark.oracle("memory_policies")
@pytest.mark.parametrize("name", get_args(Name))
def test_a_policy_chooses_what_weighing_every_exchange_would(name: Name, tmp_path: Path) -> None:
    for seed in range(2):
        memory = random_memory(tmp_path / f"{seed}.sqlite", seed)
        store = memory.store
        if name == "lifelong":
            consolidate(store, tag, LifelongSettings(belief=0.7, smallest=3), NOW)
            assert seed or standing_beliefs(read_nodes(store, tag))
        for number, query in enumerate(QUERIES):
            settings = SETTINGS[(seed + number) % len(SETTINGS)]
            expected = weighed(name, store, query, settings)
            chosen = list(choose(name, store, WORDS, query, settings, NOW).placed)
            same(sorted(chosen, key=lambda one: one.place), shown(expected))
            for budget in (-1, 0, 60, 300, 10**6):
                compressing = name not in ("window", "full")
                kept = fit(iter(chosen), budget, cost, compressing)
                same(shown(kept), shown(demoted(list(expected), budget, cost, compressing)))
        memory.close()


def shown(placed: list[Placed]) -> list[Placed]:
    return [one for one in placed if one.treatment != "left out"]


def same(found: list[Placed], expected: list[Placed]) -> None:
    def without_score(placed: list[Placed]) -> list[tuple[object, ...]]:
        return [(one.place, one.exchange, one.treatment, one.reason) for one in placed]

    assert without_score(found) == without_score(expected)
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], rel=1e-12, abs=1e-15)


def test_exchanges_of_entries_are_those_of_the_table(tmp_path: Path) -> None:
    memory = random_memory(tmp_path / "m.sqlite", 5)
    entries = [entry for entry in memory.store.entries() if entry.kind in ("turn", "note")]
    outline = Outline(memory.store.table())
    read = [one for _, one in outline.read(memory.store, range(len(outline)))]
    assert exchanges(entries) == read == joined(entries)
    assert not outline.are_turns("today")
    fresh = Memory(tmp_path / "fresh.sqlite", "words", session="today")
    for role in ("user", "assistant", "assistant", "Ilse"):
        fresh.observe("Bees hum.", role)
        assert Outline(fresh.store.table()).are_turns("today")
    assert not Outline(fresh.store.table()).are_turns("tomorrow")
    fresh.in_session("tomorrow").observe("They do.", "assistant")
    assert len(Outline(fresh.store.table())) == 3


def test_a_budget_reads_no_more_than_it_can_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, read = Memory(tmp_path / "m.sqlite", "words", "full"), []
    entries = [Entry(f"Bees hum {number}.") for number in range(500)]
    memory.store.add(entries, WORDS.embed([entry.text for entry in entries]))
    through = memory.store.entries
    monkeypatch.setattr(memory.store, "entries", lambda ids: read.extend(ids := list(ids)) or through(ids))
    context = memory.context("And?", budget=50)
    assert (len(read), context.left_out) == (BATCH, 500 - sum(one.treatment == "whole" for one in context.plan))
    assert context.tokens <= 50


def test_what_another_process_stores_or_erases_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.sqlite"
    memory, other = Memory(path, "words", "full", "today"), Memory(path, "words", session="today")
    for text in ("Bees hum.", "Ships sail.", "Trams stop."):
        memory.observe(text)
    choice = choose("full", memory.store, WORDS, "Bees?", Settings())
    other.forget(ids=[2])
    other.observe("Ilse keeps bees.")
    assert [one.exchange.said for one in choice.placed] == ["Trams stop.", "Bees hum."]
    nearest = memory.store.nearest

    def stored_first(*args: Any) -> list[tuple[int, float]]:
        found = nearest(*args)
        monkeypatch.undo()
        other.observe("Zed plays chess.")
        return found

    monkeypatch.setattr(memory.store, "nearest", stored_first)
    assert memory.matches("Zed plays chess.") == []
    assert [entry.text for entry in memory.matches("Zed plays chess.")] == ["Zed plays chess."]
