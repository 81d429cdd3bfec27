"""Three properties of a lifelong memory, each in a small world: mood, beliefs after long, and curiosity."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from letheon.papers.common.lifelong_world import (
    DAY,
    DAYS,
    EVENTS,
    JOBS,
    MOODS,
    PEOPLE,
    TOPICS,
    Topic,
    World,
    make_world,
)  # fmt: skip
from letheon.recall.embedders import Embedder
from letheon.recall.lifelong.memory import LifelongMemory
from letheon.recall.lifelong.nodes import BELIEF
from letheon.recall.lifelong.settings import LifelongSettings, Part
from letheon.recall.lifelong.valence import tag
from letheon.recall.store import Store

SETTINGS = LifelongSettings()
LATER = 300  # days until the beliefs are asked for
DRAWS = 20  # random choices of memories that are kept


@contextmanager
def opened(embedder: Embedder, settings: LifelongSettings, without: Collection[Part]) -> Iterator[LifelongMemory]:
    """Open a lifelong memory on a file that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "m.sqlite", embedder.name, embedder.width)
        yield LifelongMemory(store, embedder, settings, without=without)
        store.close()


def tell(memory: LifelongMemory, world: World) -> None:
    """Tell all facts and the chatter in the first session."""
    for minute, (text, fact) in enumerate(world.told):
        number = memory.observe(text, now=60.0 * minute).number
        if fact is not None:
            fact.number = number


def mood_order(seed: int, embedder: Embedder, without: tuple[Part, ...], pairs: int = 12) -> float:
    """How often the memory of the present mood comes before the one of the opposite mood about the same day."""
    draw = random.Random(seed)
    hits = []
    with opened(embedder, SETTINGS, without) as memory:
        days: list[tuple[str, dict[str, str]]] = []
        for number, fact in enumerate(draw.sample(make_world(seed).facts, pairs)):
            about = f"the day with {fact.owner} and the {fact.thing[0]}"
            told = {f"About {about}: {draw.choice(DAYS[mood])}.": mood for mood in draw.sample(sorted(DAYS), 2)}
            for text in told:
                memory.observe(text, now=60.0 * number)
            days.append((about, told))
        for about, told in days:
            for mood, said in MOODS.items():
                memory.flush()
                memory.feel(tag(draw.choice(said), "user", 0.0))
                items = memory.recall(f"How was {about}?", now=DAY).items
                own = [told[node.entry.text] for node in items if node.entry.text in told]
                hits.append(bool(own) and own[0] == mood)
    return float(np.mean(hits))


def topics_later(seed: int, embedder: Embedder, without: tuple[Part, ...], name: str) -> dict[str, Any]:
    """The share of topics that a general question still brings to mind long after the facts were told."""
    world = make_world(seed)
    with opened(embedder, SETTINGS, without) as memory:
        tell(memory, world)
        memory.consolidate(now=DAY)
        memory.consolidate(now=LATER * DAY)
        memory.flush()
        topic_of = {fact.number: fact.topic.name for fact in world.facts}
        hits, purity = [], []
        for topic in TOPICS:
            items = memory.recall(general(topic), now=LATER * DAY).items
            hits.append(any(_mostly(node.entry.sources, topic_of, topic.name) for node in items))
        left = [node for node in memory.nodes() if node.recallable]
        for node in left:
            if node.entry.kind == BELIEF and node.level == "intermediate":
                of = [topic_of.get(number, "") for number in node.entry.sources]
                purity.append(max(map(of.count, of)) / len(of))
    row: dict[str, Any] = {name: float(np.mean(hits))}
    if without:
        return row
    row[f"{name}, random"] = topics_of_some(world, embedder, len(left), seed)
    return row | {"left": len(left), "purity": float(np.mean(purity)) if purity else None}


def topics_of_some(world: World, embedder: Embedder, kept: int, seed: int) -> float:
    """The share of topics that a search of randomly kept turns brings to mind, over many choices."""
    draw, vectors = random.Random(seed), embedder.embed([text for text, _ in world.told])
    asked = embedder.embed([general(topic) for topic in TOPICS])
    hits = []
    for _ in range(DRAWS):
        places = draw.sample(range(len(vectors)), min(kept, len(vectors)))
        order = np.argsort(-(asked @ vectors[places].T), axis=1)[:, : SETTINGS.capacity]
        for topic, near in zip(TOPICS, order, strict=True):
            facts = [world.told[places[place]][1] for place in near]
            hits.append(any(fact is not None and fact.topic is topic for fact in facts))
    return float(np.mean(hits))


def general(topic: Topic) -> str:
    """The question about all of a topic."""
    return f"What do you know about {topic.about}?"


def _mostly(sources: Sequence[int], topic_of: dict[int | None, str], topic: str) -> bool:
    """Whether most sources of a belief are facts of a topic."""
    return bool(sources) and sum(topic_of.get(number) == topic for number in sources) > len(sources) / 2


def make_people(seed: int) -> list[tuple[str, str, str]]:
    """Draw people with their job and an event in which they are named."""
    draw = random.Random(seed)
    return list(zip(*(draw.sample(words, len(words)) for words in (PEOPLE, JOBS, EVENTS)), strict=True))


def answers_per_word(
    seed: int, embedder: Embedder, without: tuple[Part, ...], asked_of: Collection[int] = ()
) -> tuple[float, int]:
    """Rightly answered questions about people who were named in passing, per 100 stored words; the questions asked.

    Every other person is explained before being named. The user explains whom the memory asks about, who is named.

    Args:
        asked_of: places of the people about whom something else than the memory asks.
    """
    people, right, asked = make_people(seed), 0, 0
    with opened(embedder, SETTINGS, without) as memory:
        for number, (name, job, event) in enumerate(people):
            now, told = 600.0 * number, f"{name} is my {job}."
            if number % 2 == 0:
                memory.observe(told, now=now - 60)
            seen = memory.observe(event.format(name), now=now)
            wondered = number in asked_of or f"Who or what is {name}?" in seen.questions
            if wondered and seen.number is not None:
                memory.explain(seen.number, told, now=now + 60)
                asked += 1
            memory.observe("I see. Thank you for telling me that.", "assistant", now=now + 120)
        stored = memory.store.entries()
        for name, job, _ in people:
            answer = memory.recall(f"Who is {name}?", now=DAY).answer
            right += answer is not None and job in answer.entry.text and name in answer.entry.text
        return 100 * right / sum(len(entry.text.split()) for entry in stored), asked
