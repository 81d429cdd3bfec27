"""Policies: which earlier exchanges a model sees before it answers, and in how many words.

`full` shows all (the oldest go where the budget does not reach), `window` the last ones, `vector`, `words` and `fused`
the best matches, `rhea` decides per exchange between whole, compressed and left out (Rhea, arXiv 2512.06869). A policy
scores exchanges; `fit` keeps to the budget.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from letheon.core.registry import check_settings
from letheon.recall.embedders import Embedder
from letheon.recall.exchanges import Exchange, Outline
from letheon.recall.instructions import sentences
from letheon.recall.lifelong.memory import lifelong_scores, standing_beliefs
from letheon.recall.lifelong.nodes import read_nodes
from letheon.recall.lifelong.valence import tag
from letheon.recall.ranking import fused_ranks
from letheon.recall.store import Store
from letheon.recall.table import ranked

Name = Literal["rhea", "lifelong", "fused", "vector", "words", "window", "full"]
Treatment = Literal["whole", "compressed", "left out"]
TREATMENTS = np.array(get_args(Treatment)[::-1])
BACK_REFERENCE = re.compile(r"\b(earlier|before|again|previously|you said|i (said|told|mentioned)|remember)\b", re.I)


@dataclass(frozen=True)
class Placed:
    """An exchange with its score, its treatment, why it has it, and its place among all, the oldest first."""

    exchange: Exchange
    score: float
    treatment: Treatment
    reason: str
    place: int = 0


@dataclass(frozen=True)
class Choice:
    """What a policy chose.

    Attributes:
        outline: all exchanges, the oldest first.
        scores: their scores [exchanges].
        placed: the exchanges that are not left out, by falling score and, at equal scores, newest first. The iterator
            reads each exchange from the file when it is reached.
    """

    outline: Outline
    scores: NDArray[np.float64]
    placed: Iterator[Placed]


@dataclass(frozen=True)
class Settings:
    """Options of the policies; those of Rhea are [inferred].

    Attributes:
        k: exchanges that a search shows.
        recent: last exchanges that are always whole.
        high: score from which an exchange is whole.
        low: score below which it is left out.
        recency: weight of the bonus exp(-age / horizon), with age in exchanges.
        horizon: age at which the bonus has fallen to 1/e.
        back_reference: bonus of every exchange when the query refers to what was said.
    """

    k: int = 5
    recent: int = 1
    high: float = 0.5
    low: float = 0.2
    recency: float = 0.1
    horizon: float = 5.0
    back_reference: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self, positive=("k", "horizon"))


def rhea_scores(cosines: NDArray[np.float64], query: str, settings: Settings) -> NDArray[np.float64]:
    """Score exchanges, oldest first: cosine with the query, a recency bonus, a bonus for back-references [inferred]."""
    bonus = settings.back_reference if BACK_REFERENCE.search(query) else 0.0
    ages = np.arange(len(cosines))[::-1]
    return cosines + settings.recency * np.exp(-ages / settings.horizon) + bonus


def rhea_treatments(scores: NDArray[np.float64], settings: Settings) -> NDArray[np.str_]:
    """Decide per exchange: whole from `high` on or among the last ones, compressed from `low` on, else left out."""
    recent = np.arange(len(scores)) >= len(scores) - settings.recent
    return TREATMENTS[np.where(recent | (scores >= settings.high), 2, scores >= settings.low)]


def compress(said: str, reply: str, embedder: Embedder) -> str:
    """Shorten a reply to its first sentence and the other one that is nearest to what the user said [inferred]."""
    parts = sentences(reply)
    if len(parts) <= 2:
        return reply
    vectors = embedder.embed([said, *parts[1:]])
    nearest = 1 + int(np.argmax(vectors[1:] @ vectors[0]))
    return " ".join((parts[0], parts[nearest]))


def choose(
    name: Name, store: Store, embedder: Embedder, query: str, settings: Settings, now: float | None = None
) -> Choice:
    """Choose among all exchanges of a memory, before which stand, for `lifelong`, beliefs in place of dormant turns.

    Args:
        now: when the query is asked, in seconds since 1970; by default the present moment.
    """
    nodes = read_nodes(store, tag) if name == "lifelong" else []
    outline = Outline(store.table(), [belief.id for belief in standing_beliefs(nodes)])
    count = len(outline)
    if name == "lifelong":
        scores = outline.best_of(lifelong_scores(store, nodes, embedder, query, time.time() if now is None else now))
    else:
        scores = _scores(name, outline, store, embedder, query, settings)
    if name == "rhea":
        treatments = rhea_treatments(scores, settings)
    else:
        whole = np.arange(count) >= count - (settings.k if name == "window" else settings.recent)
        if name != "window":
            whole[ranked(scores, np.flatnonzero(scores > 0), settings.k)] = True
        treatments = TREATMENTS[2 * (whole | (name == "full"))]
    shown = np.flatnonzero(treatments != "left out")
    order = shown[np.lexsort((shown, scores[shown]))][::-1].tolist()

    def placed() -> Iterator[Placed]:
        for t, one in outline.read(store, order):
            reason = _reason(name, t >= count - settings.recent, scores[t])
            yield Placed(one, float(scores[t]), treatments[t].item(), reason, t)

    return Choice(outline, scores, placed())


def _scores(
    name: Name, outline: Outline, store: Store, embedder: Embedder, query: str, settings: Settings
) -> NDArray[np.float64]:
    """Scores by exchange: cosines, those of Rhea, BM25, cosines and BM25 fused, or the order of time."""
    if name in ("window", "full"):
        return np.arange(len(outline), dtype=np.float64)
    by_words = outline.best_of(dict(store.matching(query))) if name in ("words", "fused") else np.zeros(0)
    if name == "words":
        return by_words
    cosines = outline.best(outline.table.vectors @ embedder.embed([query])[0])
    if name == "rhea":
        return rhea_scores(cosines, query, settings)
    if name == "vector":
        return cosines
    rankings = [ranked(cosines, np.arange(len(outline))), ranked(by_words, np.flatnonzero(by_words))]
    return fused_ranks(rankings, len(outline))


def _reason(name: Name, recent: bool, score: float) -> str:
    if name in ("window", "full"):
        return f"{name}, the oldest go first"
    return "one of the last exchanges" if recent else f"{name} score {score:.2f}"


def fit(best: Iterable[Placed], budget: int, cost: Callable[[Placed], int], compressing: bool = True) -> list[Placed]:
    """Demote exchanges, lowest score first, from whole to compressed to left out until their cost fits a budget.

    Exchanges that the budget cannot reach are not looked at.

    Args:
        best: exchanges with their treatment, best first.
        budget: tokens for all exchanges together.
        cost: tokens of an exchange in its treatment.
        compressing: whether replies are shortened before exchanges are left out.

    Returns:
        The exchanges that were looked at, in the order of their places.
    """
    placed: list[Placed] = []
    total = least = counted = 0
    for one in best:
        placed.append(one)
        total += cost(one)
        if total > budget:
            least += sum(min(map(cost, _shorter(one, compressing))) for one in placed[counted:])
            counted = len(placed)
            if least > budget:
                break
    steps: list[tuple[Treatment, Treatment]] = [("whole", "compressed"), ("compressed", "left out")]
    if not compressing:
        steps = [("whole", "left out")]
    for treatment, then in steps:
        for t in reversed(range(len(placed))):
            one = placed[t]
            if total <= budget:
                break
            if one.treatment == treatment:
                placed[t] = replace(one, treatment=then, reason=f"{one.reason}; the budget demoted it")
                total += cost(placed[t]) - cost(one)
    return sorted(placed, key=lambda one: one.place)


def _shorter(one: Placed, compressing: bool) -> list[Placed]:
    """Return an exchange in all treatments in which it can be shown."""
    return [one, replace(one, treatment="compressed")] if compressing else [one]
