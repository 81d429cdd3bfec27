"""Recall: automatic by spreading activation (System 1), deliberate by search (System 2), or none at all.

Paper:   Lerma-Torres, arXiv 2603.29023: recall is automatic first and deliberate only on need, with graded states.
         The order of steps, thresholds and costs are [inferred].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from letheon.recall.embedders import Embedder
from letheon.recall.lifelong.equations import (
    State,
    Vector,
    base_level,
    cosine,
    epistemic_state,
    initial_activation,
    prediction_error,
    primed,
    spread,
)
from letheon.recall.lifelong.nodes import BELIEF, CUE, LINKED, Node, edges
from letheon.recall.lifelong.settings import LifelongSettings, Part
from letheon.recall.lifelong.valence import words_of
from letheon.recall.ranking import reciprocal_ranks
from letheon.recall.store import Store

DAY = 86_400.0
CANDIDATES = 20  # per search of System 2
ALIKE = 0.9  # cosine of two memories that say nearly the same
NEAR_BEST = 0.9  # share of the best fused score


@dataclass(frozen=True)
class Recall:
    """The outcome of a recall.

    Attributes:
        items: working memory: the most active memories, at most `capacity`.
        answer: the memory that answers, or None where the memory abstains (`unsure` and `unknown`).
        state: what the memory knows: known, likely, unsure, unknown.
        system: 1 automatic, 2 deliberate.
        cost: 1 for automatic recall, and 1 per search of the deliberate one.
        orientation: mean valence of the activation and the text of the strongest core belief, known before any item
            is read.
        trace: activations by memory after each hop, only those above 0.
        scores: the final score by memory: activations, or fused ranks where the search was deliberate.
    """

    query: str
    items: list[Node]
    answer: Node | None
    state: State
    system: int
    cost: int
    orientation: tuple[list[float], str]
    trace: list[dict[int, float]] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Active:
    """The activations that a query causes.

    Attributes:
        order: memories that can be recalled, most active first.
        activation, cosines: by the memory's number; recency and priming are in `ranking` only.
        support: the cosine, or that of a question which the memory answered before, if it is larger.
    """

    order: list[Node]
    activation: dict[int, float]
    ranking: dict[int, float]
    cosines: dict[int, float]
    support: dict[int, float]
    trace: list[dict[int, float]]

    @property
    def episodes(self) -> list[Node]:
        """The memories that can answer: all but beliefs."""
        return [node for node in self.order if node.entry.kind != BELIEF]


def contradict(first: Node, second: Node, cosine: float) -> bool:
    """Whether two memories say nearly the same in other words, so that one of them may be wrong [inferred]."""
    one, other = (frozenset(words_of(node.entry.text)) for node in (first, second))
    return cosine >= ALIKE and prediction_error(one, other) > 0


def _fires(query: str, cue: Node, cosine: float, settings: LifelongSettings) -> bool:
    """Whether a question that was answered before is near enough, and asks about the same names [inferred]."""
    return cue.entry.kind == CUE and cosine >= settings.cue and names(cue.entry.text) == names(query)


def activate(
    query: str,
    nodes: Sequence[Node],
    cosines: Vector,
    mood: Sequence[float],
    residual: Mapping[int, tuple[float, int]],
    now: float,
    settings: LifelongSettings,
    without: frozenset[Part],
) -> Active:
    """Compute the activation of all memories for a query [inferred].

    Args:
        cosines: of the query with each memory.
        mood: the present valence.
        residual: what earlier queries left: activation and the number of turns since.
    """
    live = np.array(
        [n.recallable or _fires(query, n, float(c), settings) for n, c in zip(nodes, cosines, strict=True)], dtype=bool
    )
    match = np.array([0.0 if "valence" in without else cosine(mood, node.valence) for node in nodes])
    precision = np.array([node.precision for node in nodes])
    initial = np.where(live, initial_activation(cosines, precision, match, settings.mood), 0.0)
    links = [] if "spread" in without else [one for one in edges(nodes) if live[one[0]] and live[one[1]]]
    origins, targets = (np.array([one[side] for one in links], dtype=np.int64) for side in (0, 1))
    weights = np.array([one[2] for one in links], dtype=np.float64)
    course = spread(initial, origins, targets, weights, settings.spread, settings.hops)
    activation = {node.id: float(course[-1][place]) for place, node in enumerate(nodes)}
    ranking = {}
    for node in nodes:
        ages = [(now - time) / DAY for time in node.uses] or [max((now - node.entry.created) / DAY, 0.0)]
        left = 0.0 if "priming" in without else primed(*_residual(residual, node.id, settings))
        ranking[node.id] = activation[node.id] + settings.recency * base_level(ages) + settings.priming * left
    order = sorted((node for node in nodes if node.recallable), key=lambda node: (-ranking[node.id], node.id))
    trace = [{node.id: float(v) for node, v in zip(nodes, values, strict=True) if v > 0} for values in course]
    by_id = {node.id: float(value) for node, value in zip(nodes, cosines, strict=True)}
    support = dict(by_id)
    for node, alive in zip(nodes, live, strict=True):
        if alive and node.entry.kind == CUE:
            for other in node.links:
                support[other] = max(support.get(other, 0.0), by_id[node.id])
    return Active(order, activation, ranking, by_id, support, trace)


def _residual(
    residual: Mapping[int, tuple[float, int]], number: int, settings: LifelongSettings
) -> tuple[float, float, int]:
    value, turns = residual.get(number, (0.0, 0))
    return value, settings.priming_decay, turns


def automatic(query: str, active: Active, conflict: bool, settings: LifelongSettings) -> Recall:
    """Recall by activation alone: known, unsure (System 2 is needed), or unknown.

    Args:
        conflict: whether the two most active episodes contradict each other.
    """
    items = active.order[: settings.capacity]
    episodes = active.episodes
    values = [active.activation[node.id] for node in episodes[:2]]
    top = values[0] if values else 0.0
    second = values[1] if len(values) > 1 else 0.0
    margin = (top - second) / top if top > 0 else 0.0
    confidence = top * episodes[0].precision if episodes else 0.0
    limits = {"known": settings.known, "clear": settings.clear, "unknown": settings.unknown}
    best = max((active.support[node.id] for node in active.order), default=0.0)
    state = epistemic_state(confidence, margin, best, conflict, **limits)
    if state == "known" and active.support[episodes[0].id] < settings.accept:
        state = "unsure"  # precision alone is no evidence
    answer = episodes[0] if state == "known" else None
    scores = {node.id: active.ranking[node.id] for node in active.order} if state != "unknown" else {}
    return Recall(query, items, answer, state, 1, 1, orient(active), active.trace, scores)


def orient(active: Active) -> tuple[list[float], str]:
    """Return the activation-weighted mean valence and the strongest core belief's text [inferred]."""
    weights = [max(active.activation[node.id], 0.0) for node in active.order]
    core = [node for node in active.order if node.level == "core"]
    belief = max(core, key=lambda node: node.strength).entry.text if core else ""
    if sum(weights) <= 0:
        return [], belief
    mean = np.average([node.valence for node in active.order], axis=0, weights=weights)
    return [float(value) for value in mean], belief


def deliberate(
    query: str, first: Recall, active: Active, store: Store, embedder: Embedder, settings: LifelongSettings
) -> Recall:
    """Search on purpose: by words, by an expanded query, and along links; accept what the evidence supports [inferred].

    A candidate is accepted if its cosine (or that of the expanded query) reaches `accept` and it, or a memory linked
    with it, has the names that the query asks about.
    """
    by_id = {node.id: node for node in active.order}
    words = [number for number, _ in store.matching(query, CANDIDATES)]
    seed = f"{query} {active.order[0].entry.text}" if active.order else query
    near = [number for number, _ in store.nearest(embedder.embed([seed])[0], CANDIDATES)]
    linked = [other for node in first.items for other, weight in node.links.items() if weight >= LINKED]
    own = [node.id for node in sorted(active.order, key=lambda node: -active.cosines[node.id])[:CANDIDATES]]
    rankings = [[number for number in ranking if number in by_id] for ranking in (own, words, near, linked)]
    fused = reciprocal_ranks([list(dict.fromkeys(ranking)) for ranking in rankings])
    asked = names(query)
    supported = [
        (by_id[number], score)
        for number, score in fused
        if by_id[number].entry.kind != BELIEF and asked <= names(by_id[number].entry.text, first=True)
    ]
    answer, state = _judged(supported, active, settings)
    gist = [node for number, _ in fused if (node := by_id[number]).entry.kind == BELIEF]
    if answer is None and state == "unknown" and gist and asked <= names(gist[0].entry.text, first=True):
        state = "unsure"  # the gist is there, its episodes are not: on the tip of the tongue
    ordered = [answer] if answer else []
    items = [*ordered, *(by_id[number] for number, _ in fused if by_id[number] is not answer)][: settings.capacity]
    scores = {} if state == "unknown" else dict(fused)
    return Recall(query, items, answer, state, 2, first.cost + 3, first.orientation, first.trace, scores)


def _judged(
    supported: Sequence[tuple[Node, float]], active: Active, settings: LifelongSettings
) -> tuple[Node | None, State]:
    """Accept the candidate with the best rank, of near-equal ones the nearest; grade how sure the memory is."""
    if not supported:
        return None, "unknown"
    lead = supported[0][1]
    rivals = [node for node, score in supported if score >= NEAR_BEST * lead]
    best = max(rivals, key=lambda node: active.activation[node.id])
    if active.support[best.id] >= settings.accept:
        return best, "likely"
    return None, "unsure"


def names(text: str, first: bool = False) -> frozenset[str]:
    """Return a text's proper names: capitalised words, those that begin a sentence only if `first`."""
    pattern = r"\b[A-Z][a-z]+\b" if first else r"(?<![.!?] )(?<!^)\b[A-Z][a-z]+\b"
    return frozenset(re.findall(pattern, text))


def cosines_of(store: Store, nodes: Sequence[Node], query: NDArray[np.float32]) -> Vector:
    """Return the cosine of a query vector with each node's memory."""
    ids, matrix = store.vectors()
    by_id = dict(zip(ids.tolist(), (matrix @ query).astype(np.float64).tolist(), strict=True))
    return np.array([by_id.get(node.id, 0.0) for node in nodes], dtype=np.float64)  # 0: erased meanwhile
