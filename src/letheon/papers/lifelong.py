"""Human-Like Lifelong Memory: A Neuroscience-Grounded Architecture for Infinite Interaction.

arXiv 2603.29023, 2026-03; Lerma-Torres. A position paper without experiments: the seven properties are measured on a
simulated user, each against a memory that could have it too. What is known at the end is compared with what was known
at once; the memory that comes first with that of a plain vector store of the turns; beliefs with as many memories kept
at random; both systems of recall with either alone, where a wrong answer counts as much against a memory as a right one
for it; curiosity with as many questions asked at random; and experience with the first session and with the memory that
takes no shortcuts. What is near 0 by construction (the last turns, no beliefs, unsure questions left open) is reported
and decides nothing. Thresholds were chosen on seeds 100 and 101 by hand. All equations are inferred.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from letheon.papers.common.lifelong_properties import (
    DRAWS,
    SETTINGS,
    answers_per_word,
    mood_order,
    opened,
    tell,
    topics_later,
)  # fmt: skip
from letheon.papers.common.lifelong_world import DAY, PEOPLE, Asked, Fact, World, make_world
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.kit.results import Results, Row
from letheon.papers.outcome import Scale
from letheon.recall.embedders import Cached, Embedder, load_embedder
from letheon.recall.lifelong.memory import LifelongMemory
from letheon.recall.lifelong.recalling import Recall
from letheon.recall.lifelong.settings import LifelongSettings, Part
from letheon.recall.store import Store

WINDOW = 20  # last memories that a window shows
FORMS = (1, 2)  # of questions: paraphrased, with a synonym
ALLOWED = 0.05  # "does not fall": of an accuracy
ALWAYS = LifelongSettings(known=9.0)  # never sure enough to answer automatically
READY = LifelongSettings(known=-1.0, clear=-1.0, accept=-1.0)  # answers with the most active memory
ARMS: dict[str, tuple[LifelongSettings, tuple[Part, ...]]] = {
    "lifelong": (SETTINGS, ()),
    "no shortcuts": (SETTINGS, ("shortcuts",)),
    "no deliberation": (SETTINGS, ("deliberation",)),
    "automatic only": (READY, ("deliberation",)),
    "always deliberate": (ALWAYS, ("shortcuts",)),
}
PERSISTENT = "persistent: right answers on unchanged facts, after the last session minus at once"
SELECTIVE = "selective: right memory first, minus a plain vector store"
VALENCE = "valence: memories of the mood come first, minus without valence"
BELIEFS = "hierarchical: topics recalled after 300 days, minus as many memories kept at random"
DUAL = "dual-mode: right minus wrong answers, minus automatic recall only"
DELIBERATE = "dual-mode: right minus wrong answers, minus deliberate search always"
ACTIVE = "active encoding: right answers per 100 stored words, minus as many questions at random"
CHEAPER = "experience: share of deliberate calls, last session minus first"
STEADY = "experience: accuracy, last session minus first"
BY_SHORTCUTS = "experience: fall of the cost, minus without shortcuts"
PRIMARY = (PERSISTENT, SELECTIVE, VALENCE, BELIEFS, DUAL, DELIBERATE, ACTIVE, CHEAPER, STEADY, BY_SHORTCUTS)


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
    judge(results.arms["lifelong"], found)
    results.record(found)
    found.measured["cost per query, by session"] = dict(results.course("cost", start=1)["lifelong"])


def judge(rows: Sequence[Row], found: Findings) -> None:
    """Decide the properties whose parts can fail; report the others, abstention and the other baselines beside them."""
    of = Columns(rows)
    for part, ours, baseline in (
        (SELECTIVE, "selective", "vector"),
        (VALENCE, "valence", "valence, ablated"),
        (BELIEFS, "beliefs", "beliefs, random"),
        (DUAL, "net", "net, automatic"),
        (ACTIVE, "active", "active, random"),
        (BY_SHORTCUTS, "fall", "fall, no shortcuts"),
    ):
        found.decide(part, of.pairs(ours, baseline), above=0.0)
    found.decide(PERSISTENT, of.pairs("persistent", "at once"), above=-ALLOWED)
    found.decide(DELIBERATE, of.pairs("net", "net, always"), above=-ALLOWED)
    found.decide(CHEAPER, of("deliberate, change"), below=0.0)
    found.decide(STEADY, of("accuracy, change"), above=-ALLOWED)
    for name, ours, baseline in (
        ("unchanged facts, minus the last 20 turns", "persistent", "window"),
        ("right memory first, minus among the last four memories", "selective", "recency"),
        ("topics recalled after 300 days, minus without beliefs", "beliefs", "beliefs, ablated"),
        ("right answers, minus without deliberate search", "right", "right, no deliberation"),
        ("right answers per 100 stored words, minus without curiosity", "active", "passive"),
    ):
        found.report(name, of.pairs(ours, baseline), above=0.0)
    found.check("curiosity asked questions in every world", min(of("questions")) > 0)
    found.check("working memory holds at most four", max(of("largest working memory")) <= SETTINGS.capacity)
    found.check("recalls alone change no memory", not any(of("changed by recall")))
    found.check("a file that is opened again holds the same memories", not any(of("changed by closing")))
    found.report("answered though unknown, below .05", of("unknown answered"), below=0.05)
    found.report("answered rightly of the known, above .9", of("right"), above=0.9)
    found.report("cost minus always deliberate", of.pairs("mean cost", "mean cost, always"), below=0.0)
    found.report("right minus always deliberate", of.pairs("right", "right, always"))
    found.report("beliefs of one topic", of("purity"))


def one_seed(seed: int, embedder: Embedder) -> dict[str, Any]:
    """Measure all properties in one world."""
    row: dict[str, Any] = {"seed": seed}
    runs: dict[str, Sessions] = {}
    for arm, (settings, without) in ARMS.items():
        with opened(embedder, settings, without) as memory:
            world = make_world(seed)
            tell(memory, world)
            if arm == "lifelong":
                row["at once"] = right_answers(memory, world, DAY / 2)
            runs[arm] = live(memory, world)
            if arm == "lifelong":
                row |= after_the_last_session(memory, world)
    row |= experience(runs["lifelong"]) | {
        "right, no deliberation": right_share(runs["no deliberation"]),
        "right, always": right_share(runs["always deliberate"]),
        "net": net_share(runs["lifelong"]),
        "net, automatic": net_share(runs["automatic only"]),
        "net, always": net_share(runs["always deliberate"]),
        "mean cost, always": mean_cost(runs["always deliberate"]),
        "fall, no shortcuts": experience(runs["no shortcuts"])["fall"],
        "cost, no shortcuts": experience(runs["no shortcuts"])["cost"],
    }
    for name, without in (("", ()), (", ablated", ("valence",))):
        row[f"valence{name}"] = mood_order(seed, embedder, without)
    for name, without in (("beliefs", ()), ("beliefs, ablated", ("beliefs",))):
        row |= topics_later(seed, embedder, without, name)
    row["active"], asked = answers_per_word(seed, embedder, ())
    row["passive"], _ = answers_per_word(seed, embedder, ("curiosity",))
    at_random = [
        answers_per_word(
            seed, embedder, ("curiosity",), frozenset(random.Random(draw).sample(range(len(PEOPLE)), asked))
        )
        for draw in range(DRAWS)
    ]
    row |= {"questions": asked, "active, random": float(np.mean([share for share, _ in at_random]))}
    return row


def live(memory: LifelongMemory, world: World) -> Sessions:
    """Ask the questions session by session, change some facts half-way, and give feedback."""
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


def right_share(sessions: Sessions) -> float:
    """The share of questions on told facts that are answered rightly."""
    return float(np.mean([one.right for rows in sessions for one in rows if one.asked.fact is not None]))


def net_share(sessions: Sessions) -> float:
    """The share of questions that are answered rightly minus that of wrong answers; the unknown have no right one."""
    return float(
        np.mean([one.right - (one.recalled.answer is not None and not one.right) for rows in sessions for one in rows])
    )


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


def unchanged(world: World) -> list[Fact]:
    """The facts that no session changes."""
    changed = {id(fact) for fact, _ in world.updates}
    return [fact for fact in world.facts if id(fact) not in changed]


def right_answers(memory: LifelongMemory, world: World, now: float) -> float:
    """The share of questions on unchanged facts that are answered rightly at a time."""
    hits = []
    for fact in unchanged(world):
        for form in FORMS:
            memory.flush()
            answer = memory.recall(fact.question(form), now=now).answer
            hits.append(answer is not None and answer.id == fact.number)
    memory.flush()
    return float(np.mean(hits))


def after_the_last_session(memory: LifelongMemory, world: World) -> dict[str, Any]:
    """Close the file, open it again and ask for each fact: which memory comes first, against windows and vectors."""
    states = [node.state() for node in memory.nodes()]
    memory.store.close()
    store = Store(memory.store.path, memory.embedder.name, memory.embedder.width)
    again = LifelongMemory(store, memory.embedder, memory.settings)
    before = [node.state() for node in again.nodes()]
    now = (len(world.sessions) + 1) * DAY
    turns = {entry.id: entry.text for entry in again.store.entries() if entry.kind == "turn"}
    ids, vectors = list(turns), again.embedder.embed(list(turns.values()))
    shown: dict[str, list[bool]] = {name: [] for name in ("window", "selective", "recency", "vector")}
    for fact, form in ((fact, form) for fact in world.facts for form in FORMS):
        again.flush()
        query = fact.question(form)
        items = again.recall(query, now=now).items
        near = int(np.argmax(vectors @ again.embedder.embed([query])[0]))
        shown["selective"].append(bool(items) and items[0].id == fact.number)
        shown["recency"].append(fact.number in ids[-SETTINGS.capacity :])
        shown["vector"].append(fact.number == ids[near])
        if fact in unchanged(world):
            shown["window"].append(fact.number in ids[-WINDOW:])
    persistent = right_answers(again, world, now)
    changed = before != [node.state() for node in again.nodes()]
    store.close()
    shares = {name: float(np.mean(values)) for name, values in shown.items()}
    return shares | {"persistent": persistent, "changed by recall": changed, "changed by closing": states != before}
