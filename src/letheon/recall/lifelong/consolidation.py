"""Consolidation at rest: strengths decay, faint memories become dormant, groups of episodes become beliefs.

Paper:   Lerma-Torres, arXiv 2603.29023: core, intermediate and automatic beliefs (after Beck) emerge from the graph.
         Clustering, lifetimes and pooling are [inferred]. Differs from our notes: pruned memories become dormant and
         stay in the file, because only the user erases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from letheon.recall.embedders import unit
from letheon.recall.entries import Entry
from letheon.recall.lifelong.equations import decayed
from letheon.recall.lifelong.nodes import BELIEF, LINKED, Level, Node, link, new_node, read_nodes, write_nodes
from letheon.recall.lifelong.settings import LifelongSettings
from letheon.recall.lifelong.valence import Tagger
from letheon.recall.store import Store

DAY = 86_400.0
MOST = 2000  # newest memories that are grouped at once: clustering compares all pairs


@dataclass(frozen=True)
class Pooled:
    """The belief that a group of memories forms.

    Attributes:
        vector: the unit centroid of the group.
        valence: precision-weighted mean.
        precision: mean precision.
        medoid: place of the member nearest to the centroid, whose text is the gist.
    """

    vector: NDArray[np.float32]
    valence: list[float]
    precision: float
    medoid: int


def pool(vectors: NDArray[np.float32], valences: Sequence[Sequence[float]], precisions: Sequence[float]) -> Pooled:
    """Form a belief: unit centroid, precision-weighted valence, mean precision, the text of the medoid [inferred]."""
    centroid = unit(vectors.mean(0, keepdims=True))[0]
    valence = np.average(np.array(valences), axis=0, weights=np.array(precisions))
    medoid = int(np.argmax(vectors @ centroid))
    return Pooled(centroid, [float(v) for v in valence], float(np.mean(precisions)), medoid)


def groups(vectors: NDArray[np.float32], cosine: float, smallest: int) -> list[list[int]]:
    """Group vectors by average-linkage clustering cut at a cosine; groups below the smallest size are left out."""
    if len(vectors) < max(2, smallest):
        return []
    from sklearn.cluster import AgglomerativeClustering

    clustering = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=1.0 - cosine
    )
    labels = clustering.fit_predict(vectors)
    members = [[int(i) for i in np.flatnonzero(labels == label)] for label in range(int(labels.max()) + 1)]
    return [group for group in members if len(group) >= smallest]


def lifetime(node: Node, settings: LifelongSettings) -> float:
    """Return tau in days by level; core beliefs and what the user asked to be remembered do not decay [inferred]."""
    if node.entry.kind == "note":
        return math.inf
    days = {
        "episode": settings.episode_days,
        "automatic": settings.automatic_days,
        "intermediate": settings.belief_days,
    }
    return days.get(node.level, math.inf)


def fade(nodes: Sequence[Node], now: float, settings: LifelongSettings) -> None:
    """Let all strengths decay up to a time; memories below `faint` become dormant."""
    for node in nodes:
        days = max(0.0, (now - node.last) / DAY)
        node.strength, node.last = decayed(node.strength, days, lifetime(node, settings)), max(now, node.last)
        node.dormant = node.strength < settings.faint


def consolidate(store: Store, tag: Tagger, settings: LifelongSettings, now: float, beliefs: bool = True) -> list[int]:
    """Form beliefs from groups of episodes, and core beliefs from groups of those; then let strengths decay.

    Every belief is stored with its sources, so that erasing one of these erases the belief.

    Returns:
        Numbers of the new beliefs.
    """
    made: list[int] = []
    if beliefs:
        steps: list[tuple[Level, Level, float, int]] = [
            ("episode", "intermediate", settings.belief, settings.smallest),
            ("intermediate", "core", settings.core, 2),
        ]
        for source, level, cosine, smallest in steps:
            made += _form(store, read_nodes(store, tag), source, level, cosine, smallest, now)
    nodes = read_nodes(store, tag)
    fade(nodes, now, settings)
    write_nodes(store, nodes)
    return made


def _form(
    store: Store, nodes: list[Node], source: Level, level: Level, cosine: float, smallest: int, now: float
) -> list[int]:
    """Store a belief per group of live memories of a level, unless one with these sources exists."""
    sources = {"episode": ("episode", "automatic")}.get(source, (source,))
    members = [n for n in nodes if n.level in sources and n.recallable and n.entry.role != "assistant"][-MOST:]
    existing = [n for n in nodes if n.level == level and n.superseded_by is None]
    ids, matrix = store.vectors()
    place = {int(number): row for row, number in enumerate(ids)}
    vectors = matrix[[place[node.id] for node in members]]
    made: list[int] = []
    for group in groups(vectors, cosine, smallest):
        chosen = [members[i] for i in group]
        numbers = {node.id for node in chosen}
        if any(numbers <= set(belief.entry.sources) for belief in existing):
            continue
        pooled = pool(vectors[group], [n.valence for n in chosen], [n.precision for n in chosen])
        text = chosen[pooled.medoid].entry.text
        entry = Entry(text, "user", BELIEF, "", None, now, {"level": level}, tuple(sorted(numbers)))
        (number,) = store.add([entry], pooled.vector[None])
        belief = new_node(store.entries([number])[0], pooled.valence, pooled.precision, level)
        for node in chosen:
            link(belief, node, LINKED)
            link(node, belief, LINKED)
        replaced = [old for old in existing if set(old.entry.sources) < numbers]
        for old in replaced:
            old.superseded_by = number
        write_nodes(store, [belief, *chosen, *replaced])
        made.append(number)
    return made
