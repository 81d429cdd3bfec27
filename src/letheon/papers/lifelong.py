"""Human-Like Lifelong Memory: A Neuroscience-Grounded Architecture for Infinite Interaction.

arXiv 2603.29023, 2026-03; Lerma-Torres. A position paper without experiments: the seven properties are measured on a
simulated user, each against the same memory without the part that should bring it about. Those whose baseline is near
0 by construction (last turns, no beliefs) are reported and decide nothing. Thresholds were chosen on seeds 100 and 101
by hand. All equations are inferred.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from letheon.papers.common.cached_embedder import Cached
from letheon.papers.common.lifelong_world import DAY, TOPICS, Asked, World, make_world
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.recall.embedders import Embedder, load_embedder
from letheon.recall.lifelong.memory import LifelongMemory
from letheon.recall.lifelong.nodes import BELIEF
from letheon.recall.lifelong.recalling import Recall
from letheon.recall.lifelong.settings import LifelongSettings, Part
from letheon.recall.lifelong.valence import tag
from letheon.recall.store import Store

PEOPLE = ["Ulla", "Ossip", "Bertil", "Carmela", "Dagny", "Edo", "Fiona", "Gerrit", "Hilma", "Ivo"]
JOBS = ["dentist", "plumber", "neighbour", "teacher", "cousin", "lawyer", "gardener", "baker", "pilot", "nurse"]
EVENTS = [
    "Yesterday I had a horrible quarrel with {} in the tram!",
    "It was wonderful to dance with {} at the wedding!",
    "I am so angry that {} broke my favourite cup!",
    "What a happy surprise: {} gave me a puppy!",
    "I was afraid when {} drove through the storm!",
    "I love the violin concert that {} played on Sunday!",
    "It is terrible that {} lost the keys to the cellar!",
    "I was so glad to see {} win the chess match!",
    "I hate how {} shouted at the waiter last night!",
    "It was great to climb the tower with {} this morning!",
]
WINDOW = 20  # last memories that a window shows
LATER = 300  # days until the beliefs are asked for
SETTINGS = LifelongSettings()
ALWAYS = LifelongSettings(known=9.0)  # never sure enough to answer automatically
ARMS: dict[str, tuple[LifelongSettings, tuple[Part, ...]]] = {
    "lifelong": (SETTINGS, ()),
    "no shortcuts": (SETTINGS, ("shortcuts",)),
    "no deliberation": (SETTINGS, ("deliberation",)),
    "always deliberate": (ALWAYS, ("shortcuts",)),
}
PERSISTENT = "persistent: recall of the first session in the last one, minus the last 20 turns"
SELECTIVE = "selective: right memory among four, minus the last four memories"
VALENCE = "valence: equal memories in the mood's order, minus without valence"
BELIEFS = "hierarchical: topics recalled after 300 days, minus without beliefs"
DUAL = "dual-mode: right answers, minus without deliberate search"
ACTIVE = "active encoding: right answers per 100 stored words, minus without curiosity"
CHEAPER = "experience: share of deliberate calls, last session minus first"
STEADY = "experience: accuracy, last session minus first"
BY_SHORTCUTS = "experience: fall of the cost, minus without shortcuts"
PRIMARY = (VALENCE, DUAL, ACTIVE, CHEAPER, STEADY, BY_SHORTCUTS)


@dataclass(frozen=True)
class Reply:
    """A question, its recall, and whether the answer was the memory that held the fact at that time."""

    asked: Asked
    recalled: Recall
    right: bool


Sessions = list[list[Reply]]


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure the seven properties and their ablations per seed."""
    found.baselines += ["the last turns", "plain vector search", "deliberate search always"]
    found.baselines.append("ablations: valence, beliefs, shortcuts, deliberation, curiosity")
    embedder = Cached(load_embedder("minilm"))
    results = Results({"lifelong": [one_seed(seed, embedder) for seed in scale.seeds]})
    judge(results.column, found)
    results.record(found)
    found.measured["cost per query, by session"] = dict(results.course("cost", start=1)["lifelong"])


def judge(column: Callable[[str, str], list[Any]], found: Findings) -> None:
    """Decide the properties whose parts can fail; report the others, abstention and the other baselines beside them."""

    def of(metric: str) -> list[Any]:
        return column("lifelong", metric)

    for part, ours, baseline in (
        (VALENCE, "valence", "valence, ablated"),
        (DUAL, "right", "right, no deliberation"),
        (ACTIVE, "active", "passive"),
        (BY_SHORTCUTS, "fall", "fall, no shortcuts"),
    ):
        found.decide(part, Pairs(of(baseline), of(ours)), above=0.0)
    found.decide(CHEAPER, of("deliberate, change"), below=0.0)
    found.decide(STEADY, of("accuracy, change"), above=-0.05)
    found.report(PERSISTENT, Pairs(of("window"), of("persistent")), above=0.0)
    found.report(SELECTIVE, Pairs(of("recency"), of("selective")), above=0.0)
    found.report(BELIEFS, Pairs(of("beliefs, ablated"), of("beliefs")), above=0.0)
    found.check("curiosity asked questions in every world", min(of("questions")) > 0)
    found.check("working memory holds at most four", max(of("largest working memory")) <= SETTINGS.capacity)
    found.check("recalls alone change no memory", not any(of("changed by recall")))
    found.report("right memory among four, minus plain vector search", Pairs(of("vector"), of("selective")), above=0.0)
    found.report("answered though unknown, below .05", of("unknown answered"), below=0.05)
    found.report("answered rightly of the known, above .9", of("right"), above=0.9)
    found.report("cost minus always deliberate", Pairs(of("mean cost, always"), of("mean cost")), below=0.0)
    found.report("right minus always deliberate", Pairs(of("right, always"), of("right")))
    found.report("beliefs of one topic", of("purity"))


@contextmanager
def opened(embedder: Embedder, settings: LifelongSettings, without: Collection[Part]) -> Iterator[LifelongMemory]:
    """Open a lifelong memory on a file that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "m.sqlite", embedder.name, embedder.width)
        yield LifelongMemory(store, embedder, settings, without=without)
        store.close()


def one_seed(seed: int, embedder: Embedder) -> dict[str, Any]:
    """Measure all properties in one world."""
    row: dict[str, Any] = {"seed": seed}
    runs: dict[str, Sessions] = {}
    for arm, (settings, without) in ARMS.items():
        with opened(embedder, settings, without) as memory:
            world = make_world(seed)
            runs[arm] = live(memory, world)
            if arm == "lifelong":
                row |= after_the_last_session(memory, world)
    row |= experience(runs["lifelong"]) | {
        "right, no deliberation": right_share(runs["no deliberation"]),
        "right, always": right_share(runs["always deliberate"]),
        "mean cost, always": mean_cost(runs["always deliberate"]),
        "fall, no shortcuts": experience(runs["no shortcuts"])["fall"],
        "cost, no shortcuts": experience(runs["no shortcuts"])["cost"],
    }
    for name, without in (("", ()), (", ablated", ("valence",))):
        row[f"valence{name}"] = mood_order(seed, embedder, without)
    for name, without in (("beliefs", ()), ("beliefs, ablated", ("beliefs",))):
        row |= topics_later(seed, embedder, without, name)
    row["active"], row["questions"] = answers_per_word(seed, embedder, ())
    row["passive"], _ = answers_per_word(seed, embedder, ("curiosity",))
    return row


def live(memory: LifelongMemory, world: World) -> Sessions:
    """Tell the facts, ask the questions session by session, change some facts half-way, and give feedback."""
    tell(memory, world)
    sessions = []
    for day, questions in enumerate(world.sessions, start=1):
        memory.flush()
        if day == 1 + len(world.sessions) // 2:
            for fact, value in world.updates:
                fact.value = value
                fact.number = memory.observe(fact.said(changed=True), now=day * DAY).number
        rows = []
        for minute, asked in enumerate(questions, start=1):
            now = day * DAY + 60.0 * minute
            recalled = memory.recall(asked.text, now=now)
            answer = recalled.answer
            right = answer is not None and asked.fact is not None and answer.id == asked.fact.number
            rows.append(Reply(asked, recalled, right))
            if answer is not None:
                memory.learn(recalled, answer.id, 1.0 if right else -1.0, now=now)
        sessions.append(rows)
    return sessions


def tell(memory: LifelongMemory, world: World) -> None:
    """Tell all facts and the chatter in the first session."""
    for minute, (text, fact) in enumerate(world.told):
        number = memory.observe(text, now=60.0 * minute).number
        if fact is not None:
            fact.number = number


def right_share(sessions: Sessions) -> float:
    """The share of questions on told facts that are answered rightly."""
    return float(np.mean([one.right for rows in sessions for one in rows if one.asked.fact is not None]))


def mean_cost(sessions: Sessions) -> float:
    """The mean cost per question: 1 for automatic recall, 4 for a deliberate search."""
    return float(np.mean([one.recalled.cost for rows in sessions for one in rows]))


def experience(sessions: Sessions) -> dict[str, Any]:
    """Cost, share of deliberate calls and accuracy by session, and their change from the first to the last."""
    cost = [mean_cost([rows]) for rows in sessions]
    deliberate = [float(np.mean([one.recalled.system == 2 for one in rows])) for rows in sessions]
    accuracy = [right_share([rows]) for rows in sessions]
    unknown = [one.recalled.answer is not None for rows in sessions for one in rows if one.asked.fact is None]
    return {
        "cost": cost,
        "deliberate": deliberate,
        "accuracy": accuracy,
        "fall": cost[0] - cost[-1],
        "deliberate, change": deliberate[-1] - deliberate[0],
        "accuracy, change": accuracy[-1] - accuracy[0],
        "right": right_share(sessions),
        "mean cost": mean_cost(sessions),
        "unknown answered": float(np.mean(unknown)),
        "largest working memory": max(len(one.recalled.items) for rows in sessions for one in rows),
    }


def after_the_last_session(memory: LifelongMemory, world: World) -> dict[str, Any]:
    """Close the file, open it again and ask for each fact: which memories are shown, against windows and vectors."""
    memory.store.close()
    store = Store(memory.store.path, memory.embedder.name, memory.embedder.width)
    again = LifelongMemory(store, memory.embedder, memory.settings)
    before = [node.state() for node in again.nodes()]
    now = (len(world.sessions) + 1) * DAY
    turns = [entry.id for entry in again.store.entries() if entry.kind == "turn"]
    changed_facts = [fact for fact, _ in world.updates]
    shown: dict[str, list[bool]] = {name: [] for name in ("persistent", "window", "selective", "recency", "vector")}
    for fact in world.facts:
        again.flush()
        query = fact.question(1)
        items = {node.id for node in again.recall(query, now=now).items}
        near = {number for number, _ in again.store.nearest(again.embedder.embed([query])[0], SETTINGS.capacity)}
        shown["selective"].append(fact.number in items)
        shown["recency"].append(fact.number in turns[-SETTINGS.capacity :])
        shown["vector"].append(fact.number in near)
        if fact not in changed_facts:
            shown["persistent"].append(fact.number in items)
            shown["window"].append(fact.number in turns[-WINDOW:])
    changed = before != [node.state() for node in again.nodes()]
    store.close()
    return {name: float(np.mean(values)) for name, values in shown.items()} | {"changed by recall": changed}


def mood_order(seed: int, embedder: Embedder, without: tuple[Part, ...], pairs: int = 12) -> float:
    """How often the memory of the present mood comes before its equal of the opposite mood, over both moods."""
    draw = random.Random(seed)
    hits = []
    with opened(embedder, SETTINGS, without) as memory:
        facts = draw.sample(make_world(seed).facts, pairs)
        for number, fact in enumerate(facts):
            for word in draw.sample(["wonderful", "horrible"], 2):
                memory.observe(f"The day with {fact.owner} and the {fact.thing[0]} was {word}.", now=60.0 * number)
        for fact in facts:
            for mood, word in (("I am so happy and glad!", "wonderful"), ("I am so sad and angry!", "horrible")):
                memory.flush()
                memory.feel(tag(mood, "user", 0.0))
                query = f"How was the day with {fact.owner} and the {fact.thing[0]}?"
                own = [
                    node.entry.text for node in memory.recall(query, now=DAY).items
                    if fact.owner in node.entry.text and fact.thing[0] in node.entry.text
                ]  # fmt: skip
                hits.append(bool(own) and own[0].endswith(f"{word}."))
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
            items = memory.recall(f"What do you know about {topic.about}?", now=LATER * DAY).items
            hits.append(any(_mostly(node.entry.sources, topic_of, topic.name) for node in items))
        for node in memory.nodes():
            if node.entry.kind == BELIEF and node.level == "intermediate":
                of = [topic_of.get(number, "") for number in node.entry.sources]
                purity.append(max(map(of.count, of)) / len(of))
    row: dict[str, Any] = {name: float(np.mean(hits))}
    return row if without else row | {"purity": float(np.mean(purity)) if purity else None}


def _mostly(sources: Sequence[int], topic_of: dict[int | None, str], topic: str) -> bool:
    """Whether most sources of a belief are facts of a topic."""
    return bool(sources) and sum(topic_of.get(number) == topic for number in sources) > len(sources) / 2


def answers_per_word(seed: int, embedder: Embedder, without: tuple[Part, ...]) -> tuple[float, int]:
    """Rightly answered questions about people who were named in passing, per 100 stored words; the questions asked.

    Half of the people are explained by the user unasked, in both arms; the others only if curiosity asks.
    """
    draw = random.Random(seed)
    people, jobs, events = (draw.sample(names, len(names)) for names in (PEOPLE, JOBS, EVENTS))
    right = asked = 0
    with opened(embedder, SETTINGS, without) as memory:
        for number, (name, job, event) in enumerate(zip(people, jobs, events, strict=True)):
            now = 600.0 * number
            seen = memory.observe(event.format(name), now=now)
            told = f"{name} is my {job}."
            if number % 2 and seen.number is not None and f"Who or what is {name}?" in seen.questions:
                memory.explain(seen.number, told, now=now + 60)
                asked += 1
            elif number % 2 == 0:
                memory.observe(told, now=now + 60)
            memory.observe("I see. Thank you for telling me that.", "assistant", now=now + 120)
        stored = memory.store.entries()
        for name, job in zip(people, jobs, strict=True):
            answer = memory.recall(f"Who is {name}?", now=DAY).answer
            right += answer is not None and job in answer.entry.text and name in answer.entry.text
        return 100 * right / sum(len(entry.text.split()) for entry in stored), asked
