"""`LifelongMemory`: observes turns through a gate, recalls automatically or on purpose, learns from use, rests.

    memory = LifelongMemory(Store(path, embedder.name, embedder.width), embedder)
    memory.observe("My locker code is 7391.", now=0.0)
    memory.recall("What is the code of my locker?", now=60.0).state

Paper:   Lerma-Torres, Human-Like Lifelong Memory, arXiv 2603.29023 (2026).
Differs: the paper gives components and properties, no equations and no code; all below them is [inferred].
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from letheon.core.errors import InputError
from letheon.recall.embedders import Embedder
from letheon.recall.entries import Entry
from letheon.recall.lifelong import consolidation
from letheon.recall.lifelong.equations import (
    gate_score,
    novelty,
    precision_after,
    precision_weighted,
    prediction_error,
    strengthened,
)
from letheon.recall.lifelong.nodes import BELIEF, CUE, Level, Node, link, new_node, read_nodes, write_nodes
from letheon.recall.lifelong.recalling import (
    Active,
    Recall,
    activate,
    automatic,
    contradict,
    cosines_of,
    deliberate,
    names,
)
from letheon.recall.lifelong.settings import LifelongSettings, Part
from letheon.recall.lifelong.valence import COMPONENTS, Tagger, salience, tag, words_of
from letheon.recall.store import Store

AUTOMATIC_AFTER = 3  # recalls after which an episode is an automatic thought [inferred]
CHANGE = re.compile(r"\b(now|no longer|not any ?more|moved|changed|instead|actually|from today|since today)\b", re.I)


@dataclass(frozen=True)
class Observation:
    """The outcome of encoding a turn.

    Attributes:
        number: of the stored memory; None where the gate dropped the turn.
        score: of the gate.
        valence: the tags of the turn.
        questions: what curiosity asks about it.
        superseded: number of the memory that the turn replaces.
    """

    number: int | None
    score: float
    valence: list[float]
    questions: list[str]
    superseded: int | None = None


class LifelongMemory:
    """A memory with valence, beliefs, and two systems of recall, on a memory file.

    Args:
        store: the open file.
        embedder: of the file's vectors.
        settings: thresholds and rates.
        tag: the tagger of the gateway.
        without: parts that are taken out, for ablations.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        settings: LifelongSettings | None = None,
        tag: Tagger = tag,
        without: Collection[Part] = (),
    ) -> None:
        self.store, self.embedder, self.settings = store, embedder, settings or LifelongSettings()
        self.tag, self.without = tag, frozenset(without)
        self.flush()

    def flush(self) -> None:
        """Empty working memory: the present mood and what is left of earlier activations (a session's end)."""
        self.mood = [0.0] * len(COMPONENTS)
        self._residual: dict[int, tuple[float, int]] = {}

    def nodes(self) -> list[Node]:
        """Return the nodes of all memories, in the order of their numbers."""
        return read_nodes(self.store, self.tag)

    def observe(
        self,
        text: str,
        role: str = "user",
        *,
        now: float,
        goal: str = "",
        subject: str | None = None,
        session: str = "",
    ) -> Observation:
        """Tag a turn, and store it if the gate lets it through [inferred].

        Args:
            goal: the present goal; a turn that is near to it passes more easily.
        """
        settings, vector = self.settings, self.embedder.embed([text])[0]
        nodes = self.nodes()
        cosines = cosines_of(self.store, nodes, vector)
        new = novelty(cosines.tolist())
        valence = self.tag(text, role, new)
        self.feel(valence)
        match = float(self.embedder.embed([goal])[0] @ vector) if goal else 0.0
        score = gate_score(salience(valence), settings.gate_weights, match, 1.0, settings.gate_bias)
        if score < settings.drop and "gate" not in self.without:
            return Observation(None, score, valence, [])
        entry = Entry(text, role, "turn", session, subject, now)
        (number,) = self.store.add([entry], vector[None])
        node = new_node(self.store.entries([number])[0], valence)
        replaced = self._superseded(node, nodes, cosines)
        pointing = [one for one in nodes if replaced and replaced.id in one.links]
        for one in pointing:
            one.links[number] = one.links.pop(replaced.id if replaced else number)
        write_nodes(self.store, [node, *pointing, *([replaced] if replaced and replaced not in pointing else [])])
        active = score >= settings.full and "curiosity" not in self.without and role == "user"
        questions = self._questions(text, valence, nodes) if active else []
        return Observation(number, score, valence, questions, replaced.id if replaced else None)

    def feel(self, valence: Sequence[float]) -> None:
        """Move the present mood towards a valence (an exponential moving average)."""
        rate = self.settings.mood_rate
        self.mood = [(1 - rate) * old + rate * new for old, new in zip(self.mood, valence, strict=True)]

    def _superseded(self, node: Node, nodes: Sequence[Node], cosines: np.ndarray) -> Node | None:
        """Return the memory that a statement of change replaces, with its links and valence handed over [inferred]."""
        if not CHANGE.search(node.entry.text) or node.entry.role == "assistant":
            return None
        asked = names(node.entry.text, first=True)
        rivals = [
            (float(c), old) for c, old in zip(cosines, nodes, strict=True)
            if old.recallable and old.entry.kind in ("turn", "note") and c >= self.settings.similar
            and (not asked or asked & names(old.entry.text, first=True))
        ]  # fmt: skip
        if not rivals:
            return None
        old = max(rivals, key=lambda pair: pair[0])[1]
        error = prediction_error(*(frozenset(words_of(one.entry.text)) for one in (node, old)))
        if error <= self.settings.error:
            return None
        mixed = precision_weighted(np.array(old.valence), old.precision, np.array(node.valence), node.precision)
        node.valence, node.links = [float(v) for v in mixed], dict(old.links)
        old.superseded_by = node.id
        return old

    def _questions(self, text: str, valence: Sequence[float], nodes: Sequence[Node]) -> list[str]:
        """Ask about names that no memory has, and about strong feelings without a reason [inferred]."""
        known = frozenset[str]().union(*(names(node.entry.text, first=True) for node in nodes))
        asked = [f"Who or what is {name}?" for name in sorted(names(text) - known)]
        if abs(valence[0]) >= 0.6 and not re.search(r"\b(because|since|as|so)\b", text, re.I):
            asked.append(f"Why? You said: {text}")
        return asked[: self.settings.questions]

    def explain(self, number: int, answer: str, *, now: float, session: str = "") -> int:
        """Store the answer to a question about a memory, and the gist of both; return the gist's number.

        The gist is derived from the memory and the answer, so that it is erased with either.

        Raises:
            InputError: there is no such memory.
        """
        about = self.store.entries([number])
        if not about:
            raise InputError(f"no memory has the number {number}", "give the number of an observation")
        text = f"{about[0].text} {answer}"
        vectors = self.embedder.embed([answer, text])
        (told,) = self.store.add([Entry(answer, "user", "turn", session, about[0].subject, now)], vectors[:1])
        gist = Entry(text, "user", "summary", session, about[0].subject, now, {}, (number, told))
        (made,) = self.store.add([gist], vectors[1:])
        stored = self.store.entries([told, made])
        write_nodes(self.store, [new_node(entry, self.tag(entry.text, "user", 0.0)) for entry in stored])
        return made

    def recall(self, query: str, *, now: float, nodes: Sequence[Node] | None = None) -> Recall:
        """Recall automatically, search deliberately if that leaves the memory unsure, abstain if nothing is known.

        Args:
            nodes: all nodes, where they were read before.
        """
        vector, nodes = self.embedder.embed([query])[0], self.nodes() if nodes is None else nodes
        cosines = cosines_of(self.store, nodes, vector)
        active = activate(query, nodes, cosines, self.mood, self._residual, now, self.settings, self.without)
        found = automatic(query, active, self._conflict(active), self.settings)
        if found.state == "unsure" and "deliberation" not in self.without:
            found = deliberate(query, found, active, self.store, self.embedder, self.settings)
        self._residual = {i: (value, turns + 1) for i, (value, turns) in self._residual.items()}
        self._residual |= {node.id: (active.activation[node.id], 1) for node in found.items}
        return found

    def _conflict(self, active: Active) -> bool:
        """Whether the two most active episodes contradict each other."""
        if len(active.episodes) < 2:
            return False
        first, second = active.episodes[:2]
        ids, matrix = self.store.vectors()
        one, other = matrix[np.searchsorted(ids, [first.id, second.id])]
        return contradict(first, second, float(one @ other))

    def learn(self, recalled: Recall, number: int, feedback: float, *, now: float) -> None:
        """Learn from the feedback on a recall: precision, links of what was active together, a shortcut [inferred].

        Args:
            number: of the memory that answered.
            feedback: in [-1, 1].
        """
        nodes = {node.id: node for node in self.nodes()}
        answer, rate = nodes[number], self.settings.rate
        answer.precision = precision_after(answer.precision, feedback, rate)
        changed = {answer.id: answer}
        if feedback > 0:
            answer.uses = [*answer.uses[-9:], now]
            answer.used, answer.strength = answer.used + 1, answer.strength + 1.0
            if answer.used >= AUTOMATIC_AFTER and answer.level == "episode":
                answer.level = "automatic"
            if "shortcuts" not in self.without:
                for node in (nodes[item.id] for item in recalled.items if item.id in nodes):
                    if node is not answer and self.settings.together > 0:
                        link(node, answer, strengthened(node.links.get(number, 0.0), self.settings.together))
                        link(answer, node, strengthened(answer.links.get(node.id, 0.0), self.settings.together))
                        changed[node.id] = node
                if recalled.system == 2:
                    cue = self._cue(recalled.query, answer, now)
                    link(cue, answer, strengthened(0.0, self.settings.shortcut))
                    changed[cue.id] = cue
        write_nodes(self.store, changed.values())

    def _cue(self, query: str, answer: Node, now: float) -> Node:
        """Store a question that deliberate search answered, derived from its answer: the shortcut's beginning."""
        entry = Entry(query, "user", CUE, "", answer.entry.subject, now, {}, (answer.id,))
        (number,) = self.store.add([entry], self.embedder.embed([query]))
        return new_node(self.store.entries([number])[0], self.tag(query, "user", 0.0))

    def consolidate(self, *, now: float) -> list[int]:
        """Form beliefs and let strengths decay, at rest; return the numbers of new beliefs."""
        return consolidation.consolidate(self.store, self.tag, self.settings, now, "beliefs" not in self.without)

    def beliefs(self, level: Level = "core") -> list[Node]:
        """Return the beliefs of a level that are in force, strongest first."""
        chosen = [node for node in self.nodes() if node.level == level and node.superseded_by is None]
        return sorted(chosen, key=lambda node: -node.strength)


def lifelong_scores(
    store: Store, nodes: Sequence[Node], embedder: Embedder, query: str, now: float
) -> dict[int, float]:
    """Score memories for the policy `lifelong`: the mood is the query's own; none has a score where nothing is known.

    It changes nothing in the file: beliefs and decay come from consolidation, when a conversation is opened, and uses
    from `record_uses`.
    """
    memory = LifelongMemory(store, embedder)
    memory.feel(tag(query, "user", 0.0))
    return memory.recall(query, now=now, nodes=nodes).scores


def standing_beliefs(nodes: Sequence[Node]) -> list[Entry]:
    """Return the beliefs whose text is that of a dormant memory, which they stand for; without copies."""
    by_id = {node.id: node for node in nodes}
    chosen: dict[str, Entry] = {}
    for node in nodes:
        if node.entry.kind == BELIEF and node.recallable:
            sources = [by_id[i] for i in node.entry.sources if i in by_id]
            if node.entry.text in {one.entry.text for one in sources if one.dormant and one.superseded_by is None}:
                chosen.setdefault(node.entry.text, node.entry)
    return list(chosen.values())


def record_uses(store: Store, ids: Collection[int], now: float) -> None:
    """Record that memories were shown: they decay up to now, gain a strength of 1, and are not dormant [inferred]."""
    settings = LifelongSettings()
    used = read_nodes(store, tag, ids)
    consolidation.fade(used, now, settings)
    for node in used:
        node.uses, node.strength = [*node.uses[-9:], now], node.strength + 1.0
        node.dormant = False
    write_nodes(store, used)
