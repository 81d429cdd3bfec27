"""Continued learning: a model goes on to learn ordinary tasks, and the forgotten and the kept are watched meanwhile.

A model in service is trained further, on rows that have nothing to do with the deletion. What was hidden rather than
removed may return by that alone, and what the deletion left weak may go first. So a copy of the model learns a stream
of text tasks with a strategy of the retaining wing, and the forget and retain rows are two further tasks of its
accuracy matrix that are tested and never trained: before the stream, after every task, and every so many steps.

In the terms of continual learning (`letheon.retain.metrics`) the backward transfer of the forgotten is what comes
back, and the forgetting of the kept is what it costs. Controls are the models before and reference, which learn the
same rows in the same order: where the model before loses the facts too, not coming back shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from letheon.audit.attacks.relearning import fact_probability
from letheon.audit.measuring.answering import answer_limit
from letheon.audit.measuring.continuation import Continuation, rows_of
from letheon.audit.measuring.copies import plain_copy
from letheon.audit.measuring.evaluate import RowScores, evaluate
from letheon.audit.plan import AuditPlan, draw
from letheon.audit.record import evidence
from letheon.audit.record.evidence import LearningPoint, Role, Value
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.statistics import estimate_mean, paired_difference
from letheon.forget.request import key_of
from letheon.retain.learn import learn
from letheon.retain.learner import Learner
from letheon.retain.metrics import Curve, summary
from letheon.retain.stream import Stream

MOST_WATCHED = 64  # forget rows, and as many kept ones
NO_KEPT = "the request has no retain rows beside those that the stream trains on"


def watched_rows(plan: AuditPlan, stream: Stream) -> tuple[list[Example], list[Example]]:
    """Forgotten rows with their values, and kept rows that the stream does not hold; at most `MOST_WATCHED` of each."""
    taught = {key_of(row) for task in stream for row in rows_of(task.train, task.test)}
    kept = [row for row in plan.retain if key_of(row) not in taught]
    seed = plan.settings.seed
    chosen = (draw(rows, MOST_WATCHED, seed, "after learning") for rows in (plan.facts, kept))
    forgotten, others = (
        [replace(row, perturbed_answers=(), paraphrased_answer=None) for row in rows]  # nobody reads these
        for rows in chosen
    )
    return forgotten, others


def subjects_taught(plan: AuditPlan, stream: Stream) -> int:
    """How many of the stream's training rows name a subject of the forget rows: there it may teach them anew."""
    subjects = {row.subject for row in plan.facts if row.subject}
    rows = [row for task in stream for row in rows_of(task.train)]
    return sum(any(subject in f"{row.prompt} {row.answer}" for subject in subjects) for row in rows)


# Measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Continued:
    """What one model gave of the watched rows while it learned.

    Attributes:
        curve: the stream's own evaluations; the others are made at the same ones.
        recall: [evaluations, rows] 1 where the greedy answer gives the fact; the forgotten rows come first.
        probability: [evaluations, rows] of the fact.
        forgotten: how many of the rows those are.
    """

    curve: Curve
    recall: Float[np.ndarray, "evaluations rows"]
    probability: Float[np.ndarray, "evaluations rows"]
    forgotten: int


def continue_learning(model: LanguageModel, plan: AuditPlan) -> Continued | None:
    """Let a copy of the model learn the plan's stream; None where the plan has none."""
    given = plan.continuation
    if given is None:
        return None
    forgotten, kept = watched_rows(plan, given.stream)
    rows, copied = [*forgotten, *kept], plain_copy(model)
    limit = answer_limit(model, rows)
    answers: list[str | None] = [None] * len(rows)
    looks: dict[tuple[int, int], list[RowScores]] = {}

    def watch(learner: Learner) -> None:
        # The answers of the look before are good guesses: a few steps change few of them.
        found = evaluate(copied, rows, drafts=answers, max_new_tokens=limit).rows
        answers[:] = [row.answer for row in found]
        looks[learner.step, learner.task] = found  # like the curve: one look a step of a task, the newest

    learned = learn(copied, given.stream, given.strategy, settings=given.settings, on_evaluation=watch)
    return Continued(
        learned.curve,
        np.array([[row.recall or 0.0 for row in look] for look in looks.values()]),
        np.array([[fact_probability(row) for row in look] for look in looks.values()]),
        len(forgotten),
    )


# From findings to evidence ----------------------------------------------------------------------------------------


def evidence_of(role: Role, found: Continued, given: Continuation, seed: int) -> evidence.Continued:
    """The part of the record that says what continued learning brought back and cost."""
    gone, kept = found.recall[:, : found.forgotten], found.recall[:, found.forgotten :]
    lowest = _extreme(kept, np.argmin) if kept.size else Value.missing(NO_KEPT)
    lost = _change(kept[-1], kept[0], seed) if kept.size else Value.missing(NO_KEPT)
    gap = Value.missing(NO_KEPT)
    if lowest.value is not None:
        gap = Value(value=float(kept[-1].mean()) - lowest.value, n=kept.shape[1])
    return evidence.Continued(
        model=role,
        stream=given.stream.name,
        strategy=given.strategy,
        tasks=[task.name for task in given.stream],
        ends=found.curve.ends,
        forgotten=found.forgotten,
        kept=kept.shape[1],
        points=_points(found),
        comes_back=_change(gone[0], gone[-1], seed),
        highest=_extreme(gone, np.argmax),
        kept_lost=lost,
        kept_lowest=lowest,
        stability_gap=gap,
        metrics=_metrics(found, kept),
    )


def _change(first: Sequence[float], second: Sequence[float], seed: int) -> Value:
    """Mean of second minus first over the same rows, with the bootstrap interval over rows."""
    found = paired_difference(first, second, seed=seed)
    return Value(value=found.value, low=found.low, high=found.high, n=found.n)


def _extreme(recall: Float[np.ndarray, "evaluations rows"], pick: Any) -> Value:
    """The recall at the evaluation after the start that has the most (the least) of it; the interval is that look's."""
    later = recall[1:]
    found = estimate_mean(later[int(pick(later.mean(1)))].tolist(), share=True)
    return Value(value=found.value, low=found.low, high=found.high, n=found.n)


def _points(found: Continued) -> list[LearningPoint]:
    n, points = found.forgotten, []
    looks = zip(found.curve.step, found.curve.task, found.recall, found.probability, strict=True)
    for i, (step, task, recall, probability) in enumerate(looks):
        points.append(
            LearningPoint(
                step=step,
                task=task + 1,
                forgotten_recall=float(recall[:n].mean()),
                forgotten_probability=float(probability[:n].mean()),
                kept_recall=float(recall[n:].mean()) if len(recall) > n else None,
                kept_probability=float(probability[n:].mean()) if len(recall) > n else None,
                accuracy=[_known(value) for value in found.curve.accuracy[i]],
                loss=[_known(value) for value in found.curve.loss[i]],
            )
        )
    return points


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


# Of `retain.metrics.summary`, those that make sense where the first task was learned before the stream.
KEPT_METRICS = ("average accuracy", "forgetting", "backward transfer", "minimum accuracy", "worst-case accuracy")


def _metrics(found: Continued, kept: Float[np.ndarray, "evaluations rows"]) -> dict[str, Value]:
    """Metrics of continual learning over the kept rows, as the task that was learned first, and the stream's tasks."""
    if not kept.size:
        return {name: Value.missing(NO_KEPT) for name in KEPT_METRICS}
    numbers = summary(with_first_task(found.curve, kept.mean(1).tolist()))
    return {name: Value(value=numbers[name], n=len(found.curve.ends) + 1) for name in KEPT_METRICS}


def with_first_task(curve: Curve, accuracy: Sequence[float]) -> Curve:
    """The curve of a stream that begins with one more task, which was learned before the first evaluation."""
    return Curve(
        tasks=curve.tasks + 1,
        step=list(curve.step),
        task=[task + 1 for task in curve.task],
        accuracy=[[first, *row] for first, row in zip(accuracy, curve.accuracy, strict=True)],
        loss=[[math.nan, *row] for row in curve.loss],
        ends=[0, *curve.ends],
    )
