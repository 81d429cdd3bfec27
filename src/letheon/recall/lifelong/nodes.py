"""The nodes of the memory's graph, stored in the details of the memories they belong to.

A node has no text of its own, so that erasing a memory takes its node; links to erased memories are dropped when the
nodes are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, get_args

from letheon.recall.entries import Entry
from letheon.recall.lifelong.valence import COMPONENTS, Tagger
from letheon.recall.store import Store

Level = Literal["episode", "automatic", "intermediate", "core"]
FIELD = "lifelong"  # of a memory's details
CUE = "cue"  # kind of a stored question that deliberate search once answered
BELIEF = "belief"
# Precision before any feedback, by the kind of memory [inferred].
PRECISION = {"note": 0.8, "summary": 0.8, "turn": 0.7, BELIEF: 0.7, CUE: 0.7}
STATE = ("valence", "precision", "strength", "level", "last", "uses", "used", "superseded_by", "dormant", "links")
LINKED = 0.5  # weight of a link between a belief and its sources [inferred]


@dataclass
class Node:
    """What the lifelong memory knows of a memory beside its text.

    Attributes:
        entry: the memory; its text is the verbatim trace of an episode, or the gist of a belief.
        valence: by component, see `valence.COMPONENTS`.
        precision: how far the memory is to be trusted, between 0 and 1.
        strength: decays with time and rises with use; 0 or more.
        level: of the belief hierarchy.
        last: when it was used or decayed last, seconds since 1970.
        uses: times of its uses, the encoding included; the last ten.
        used: number of recalls that it answered.
        links: weight in [0, 1] by the number of another memory.
        superseded_by: number of the memory that replaced it.
        dormant: whether it has become too faint to be recalled.
    """

    entry: Entry
    valence: list[float]
    precision: float
    strength: float = 1.0
    level: Level = "episode"
    last: float = 0.0
    uses: list[float] = field(default_factory=list)
    used: int = 0
    links: dict[int, float] = field(default_factory=dict)
    superseded_by: int | None = None
    dormant: bool = False

    @property
    def id(self) -> int:
        """The memory's number."""
        return self.entry.id

    @property
    def recallable(self) -> bool:
        """Whether the memory can enter working memory."""
        return self.entry.kind != CUE and self.superseded_by is None and not self.dormant

    def state(self) -> dict[str, Any]:
        """Return what is stored in the memory's details."""
        links = {str(i): weight for i, weight in self.links.items()}
        return {name: getattr(self, name) for name in STATE} | {"links": links}


def new_node(entry: Entry, valence: list[float], precision: float | None = None, level: Level = "episode") -> Node:
    """Make the node of a memory that was just encoded."""
    base = PRECISION.get(entry.kind, 0.6) if precision is None else precision
    return Node(entry, valence, base, level=level, last=entry.created, uses=[entry.created])


def read_nodes(store: Store, tag: Tagger, ids: Iterable[int] | None = None) -> list[Node]:
    """Read the nodes of all memories, or of some, in the order of their numbers; one without a sound node gets one."""
    nodes = []
    entries = store.entries(ids)
    known = frozenset(store.table().ids.tolist())
    for entry in entries:
        if entry.kind == "instruction":
            continue  # rules are always shown
        stored = entry.details.get(FIELD)
        if not _is_state(stored):
            nodes.append(new_node(entry, tag(entry.text, entry.role, 0.0)))
            continue
        links = {int(i): float(w) for i, w in stored["links"].items() if int(i) in known}
        node = Node(entry, **{**stored, "links": links})
        if node.superseded_by is not None and node.superseded_by not in known:
            node.superseded_by = None  # its successor was erased
        nodes.append(node)
    return nodes


def _is_state(stored: Any) -> TypeGuard[dict[str, Any]]:
    """Whether what is stored in a memory's details is the state of a node: others may have written it."""
    if not isinstance(stored, dict) or set(stored) != set(STATE):
        return False
    links, uses, valence = stored["links"], stored["uses"], stored["valence"]
    if not (isinstance(links, dict) and isinstance(uses, list) and isinstance(valence, list)):
        return False
    values = [stored["precision"], stored["strength"], stored["last"], stored["used"], *uses, *valence, *links.values()]
    numbers = all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    return (
        numbers
        and len(valence) == len(COMPONENTS)
        and 0 <= stored["precision"] <= 1
        and stored["strength"] >= 0
        and all(0 <= weight <= 1 for weight in links.values())
        and all(number.isdecimal() for number in links)
        and stored["level"] in get_args(Level)
        and isinstance(stored["superseded_by"], int | None)
        and isinstance(stored["dormant"], bool)
    )


def write_nodes(store: Store, nodes: Iterable[Node]) -> None:
    """Store nodes in the details of their memories, in one transaction."""
    rows = [(json.dumps({**node.entry.details, FIELD: node.state()}), node.id) for node in nodes]
    if rows:
        with store.writing() as connection:
            connection.executemany("UPDATE memories SET details = ? WHERE id = ?", rows)


def link(first: Node, second: Node, weight: float) -> None:
    """Set the weight of the link from one memory to another."""
    if first.id != second.id:
        first.links[second.id] = weight


def edges(nodes: Sequence[Node]) -> list[tuple[int, int, float]]:
    """Return all links as (place of the origin, place of the target, weight)."""
    place = {node.id: number for number, node in enumerate(nodes)}
    return [
        (number, place[other], weight)
        for number, node in enumerate(nodes)
        for other, weight in node.links.items()
        if other in place
    ]
