"""Policies: which earlier exchanges a model sees before it answers, and in how many words.

`full` shows all (the oldest go where the budget does not reach), `window` the last ones, `vector`, `words` and `fused`
the best matches, `rhea` decides per exchange between whole, compressed and left out (Rhea, arXiv 2512.06869). A policy
scores exchanges; `fit` keeps to the budget.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from letheon.core.registry import check_settings
from letheon.recall.embedders import Embedder
from letheon.recall.entries import Entry
from letheon.recall.instructions import sentences
from letheon.recall.lifelong.memory import lifelong_scores, standing_beliefs
from letheon.recall.ranking import reciprocal_ranks
from letheon.recall.store import Store

Name = Literal["rhea", "lifelong", "fused", "vector", "words", "window", "full"]
Treatment = Literal["whole", "compressed", "left out"]
BACK_REFERENCE = re.compile(r"\b(earlier|before|again|previously|you said|i (said|told|mentioned)|remember)\b", re.I)


@dataclass(frozen=True)
class Exchange:
    """A user's turn and the reply to it (either may be missing), or a note."""

    entries: tuple[Entry, ...]

    @property
    def said(self) -> str:
        """The words of everybody but the assistant."""
        return " ".join(entry.text for entry in self.entries if entry.role != "assistant")

    @property
    def reply(self) -> str:
        """The assistant's words."""
        return " ".join(entry.text for entry in self.entries if entry.role == "assistant")


@dataclass(frozen=True)
class Placed:
    """An exchange with its score, its treatment, and why it has it."""

    exchange: Exchange
    score: float
    treatment: Treatment
    reason: str


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


def exchanges(entries: Sequence[Entry]) -> list[Exchange]:
    """Join each user's turn with the replies that follow it in its session; a note stands alone."""
    joined: list[list[Entry]] = []
    for entry in entries:
        last = joined[-1][-1] if joined else None
        follows = last is not None and last.session == entry.session and last.kind == entry.kind == "turn"
        if entry.role == "assistant" and follows:
            joined[-1].append(entry)
        else:
            joined.append([entry])
    return [Exchange(tuple(part)) for part in joined]


def rhea_scores(cosines: Sequence[float], query: str, settings: Settings) -> list[float]:
    """Score exchanges, oldest first: cosine with the query, a recency bonus, a bonus for back-references [inferred]."""
    bonus = settings.back_reference if BACK_REFERENCE.search(query) else 0.0
    last = len(cosines) - 1
    return [c + settings.recency * math.exp(-(last - t) / settings.horizon) + bonus for t, c in enumerate(cosines)]


def rhea_treatments(scores: Sequence[float], settings: Settings) -> list[Treatment]:
    """Decide per exchange: whole from `high` on or among the last ones, compressed from `low` on, else left out."""
    first_recent = len(scores) - settings.recent

    def treatment(t: int, score: float) -> Treatment:
        if t >= first_recent or score >= settings.high:
            return "whole"
        return "compressed" if score >= settings.low else "left out"

    return [treatment(t, score) for t, score in enumerate(scores)]


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
) -> list[Placed]:
    """Return all exchanges of the memory, oldest first, with the treatment that a policy gives them.

    Before them stand, for the policy `lifelong`, beliefs in place of dormant turns.

    Args:
        now: when the query is asked, in seconds since 1970; by default the present moment.
    """
    every = exchanges([entry for entry in store.entries() if entry.kind in ("turn", "note")])
    if name == "lifelong":  # beliefs stand for turns that are dormant
        every = [*(Exchange((belief,)) for belief in standing_beliefs(store)), *every]
    ids, matrix = store.vectors()
    cosine = dict(zip(ids.tolist(), (matrix @ embedder.embed([query])[0]).tolist(), strict=True))
    cosines = [max(cosine[entry.id] for entry in one.entries) for one in every]
    if name == "rhea":
        scores = rhea_scores(cosines, query, settings)
        treatments = rhea_treatments(scores, settings)
    else:
        if name == "lifelong":
            active = lifelong_scores(store, embedder, query, time.time() if now is None else now)
            scores = [max(active.get(entry.id, 0.0) for entry in one.entries) for one in every]
        else:
            scores = _search_scores(name, every, cosines, store, query)
        first_recent = len(every) - (settings.k if name == "window" else settings.recent)
        best = set(sorted(range(len(every)), key=lambda t: -scores[t])[: settings.k])
        treatments = [
            "whole" if name == "full" or t >= first_recent or (name != "window" and t in best and scores[t] > 0)
            else "left out" for t in range(len(every))
        ]  # fmt: skip
    return [
        Placed(one, score, treatment, _reason(name, t >= len(every) - settings.recent, score))
        for t, (one, score, treatment) in enumerate(zip(every, scores, treatments, strict=True))
    ]


def _search_scores(name: Name, every: list[Exchange], cosines: list[float], store: Store, query: str) -> list[float]:
    """Scores for ranking, by exchange: cosines, BM25, both fused, or (`window`, `full`) the order of time."""
    if name in ("window", "full"):
        return [float(t) for t in range(len(every))]
    if name == "vector":
        return cosines
    bm25 = dict(store.matching(query, len(store)))
    by_words = [max(bm25.get(entry.id, 0.0) for entry in one.entries) for one in every]
    if name == "words":
        return by_words
    nearest = sorted(range(len(every)), key=lambda t: -cosines[t])
    matching = [t for t in sorted(range(len(every)), key=lambda t: -by_words[t]) if by_words[t] > 0]
    fused = dict(reciprocal_ranks([nearest, matching]))
    return [fused[t] for t in range(len(every))]


def _reason(name: Name, recent: bool, score: float) -> str:
    if name in ("window", "full"):
        return f"{name}, the oldest go first"
    return "one of the last exchanges" if recent else f"{name} score {score:.2f}"


def fit(placed: list[Placed], budget: int, cost: Callable[[Placed], int], compressing: bool = True) -> list[Placed]:
    """Demote exchanges, lowest score first, from whole to compressed to left out until their cost fits a budget.

    Args:
        placed: exchanges with their treatment.
        budget: tokens for all exchanges together.
        cost: tokens of an exchange in its treatment.
        compressing: whether replies are shortened before exchanges are left out.
    """
    placed = list(placed)
    total = sum(map(cost, placed))
    steps: list[tuple[Treatment, Treatment]] = [("whole", "compressed"), ("compressed", "left out")]
    if not compressing:
        steps = [("whole", "left out")]
    for treatment, then in steps:
        for t in sorted(range(len(placed)), key=lambda t: placed[t].score):
            one = placed[t]
            if total <= budget:
                return placed
            if one.treatment == treatment:
                demoted = Placed(one.exchange, one.score, then, f"{one.reason}; the budget demoted it")
                placed[t] = demoted
                total += cost(demoted) - cost(one)
    return placed
