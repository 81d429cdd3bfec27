"""Type-2 measures: how KEEP and WITHDRAW follow the correctness of the answers.

Paper:   Cacioli, The Metacognitive Monitoring Battery, arXiv 2604.15702: withdraw delta, profiles.
Source:  synthiumjp/metacognitive-monitoring-battery for what enters each measure.
Differs: intervals, the type-2 AUROC and d' are additions; a probe that could not be read is left out of both rates
         (`unread_withdraws=True` counts it as a withdrawal, as the reference does).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from letheon.core.statistics import Estimate, estimate_auroc, share_interval

# Thresholds of the profiles, in shares; the paper has them in percent.
MOSTLY_KEEPS, HARDLY_KEEPS, SENSITIVE = 0.95, 0.10, 0.15


@dataclass(frozen=True)
class Response:
    """One item's answer and probes.

    Attributes:
        item: its name.
        track: `T1` to `T6`.
        correct: whether the answer is right; None if it could not be read.
        keep: whether it is kept; None if the probe could not be read.
        bet: whether the model bets on it; None likewise.
        path: in T6, `ANSWER_DIRECTLY`, `REQUEST_HINT` or `DECLINE`.
        confidence: log-odds of KEEP against WITHDRAW, nats, where known.
    """

    item: str
    track: str
    correct: bool | None
    keep: bool | None
    bet: bool | None = None
    path: str = ""
    confidence: float | None = None


@dataclass(frozen=True)
class Cell:
    """The responses of one model on one track.

    Attributes:
        accuracy: share of right answers.
        keep_correct, keep_incorrect: share of right and of wrong answers that are kept; None if there are none.
        delta: the withdraw delta, P(WITHDRAW | wrong) - P(WITHDRAW | right), with Newcombe's interval; no value unless
            there are right and wrong answers.
        keeps: share of all answers that are kept.
        correct, incorrect: numbers of answers with a probe that was read.
    """

    accuracy: float | None
    keep_correct: float | None
    keep_incorrect: float | None
    delta: Estimate
    keeps: float | None
    correct: int
    incorrect: int


def cell(responses: Sequence[Response], *, unread_withdraws: bool = False) -> Cell:
    """Summarise the responses of one track."""
    read = [r for r in responses if r.correct is not None]
    judged = [r for r in read if r.keep is not None or unread_withdraws]
    right, wrong = ([bool(r.keep) for r in judged if r.correct is side] for side in (True, False))
    return Cell(
        accuracy=_share([bool(r.correct) for r in read]),
        keep_correct=_share(right),
        keep_incorrect=_share(wrong),
        delta=difference_of_shares(sum(right), len(right), sum(wrong), len(wrong)),
        keeps=_share([*right, *wrong]),
        correct=len(right),
        incorrect=len(wrong),
    )


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def difference_of_shares(first: int, n_first: int, second: int, n_second: int) -> Estimate:
    """Estimate first / n_first - second / n_second with Newcombe's hybrid score interval (1998, method 10)."""
    ends = share_interval(first, n_first), share_interval(second, n_second)
    if ends[0] is None or ends[1] is None:
        return Estimate(None, None, None, n_first + n_second)
    p, q = first / n_first, second / n_second
    low = p - q - math.hypot(p - ends[0][0], ends[1][1] - q)
    high = p - q + math.hypot(ends[0][1] - p, q - ends[1][0])
    return Estimate(p - q, low, high, n_first + n_second)


def type2_auroc(responses: Sequence[Response]) -> Estimate:
    """Estimate how often a right answer has more confidence than a wrong one; 0.5 is no monitoring."""
    known = [r for r in responses if r.confidence is not None and r.correct is not None]
    right, wrong = ([float(r.confidence or 0.0) for r in known if r.correct is side] for side in (True, False))
    return estimate_auroc(right, wrong)


def type2_dprime(found: Cell) -> float | None:
    """Compute z(P(KEEP | right)) - z(P(KEEP | wrong)), with half a response added to each kind (log-linear)."""
    if found.keep_correct is None or found.keep_incorrect is None:
        return None
    hits = (found.keep_correct * found.correct + 0.5) / (found.correct + 1)
    false_alarms = (found.keep_incorrect * found.incorrect + 0.5) / (found.incorrect + 1)
    return float(stats.norm.ppf(hits) - stats.norm.ppf(false_alarms))


def profile(mean_keeps: float | None, mean_delta: float | None) -> str:
    """Name the profile by the paper's thresholds.

    Args:
        mean_keeps: mean over tracks of the share of answers that are kept.
        mean_delta: mean withdraw delta over the tracks that have one.

    Returns:
        `A` (blanket confidence), `B` (blanket withdrawal), `C` (selective sensitivity), or `Unclassified`.
    """
    if mean_keeps is None or mean_delta is None:
        return "Unclassified"
    if mean_keeps >= MOSTLY_KEEPS and abs(mean_delta) < SENSITIVE:
        return "A"
    if mean_keeps <= HARDLY_KEEPS:
        return "B"
    return "C" if mean_delta >= SENSITIVE else "Unclassified"
