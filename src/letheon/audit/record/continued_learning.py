"""The record's section on continued learning: what it brings back of the forget rows, what it costs of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from letheon.audit.measuring.continuation import Continuation
from letheon.audit.measuring.continued_learning import ContinuedLearning
from letheon.audit.record.evidence import Continued, LearningPoint, Role, Value
from letheon.audit.record.metric_table import NO_ROWS, as_value
from letheon.core.statistics import estimate_mean, paired_difference
from letheon.retain.metrics import Curve, summary

NO_KEPT = "the request has no retain rows beside those that the stream trains on"
# Metrics of `retain.metrics.summary` that make sense where the first task was learned before the stream.
KEPT_METRICS = ("average accuracy", "forgetting", "backward transfer", "minimum accuracy", "worst-case accuracy")

Recall = Float[np.ndarray, "evaluations rows"]


def continued_section(role: Role, learning: ContinuedLearning, continuation: Continuation, seed: int) -> Continued:
    """Summarise one model's continued learning for the record."""
    forgotten, kept = learning.recall[:, : learning.forgotten], learning.recall[:, learning.forgotten :]
    lowest = _extreme(kept, np.argmin) if kept.size else Value.missing(NO_KEPT)
    lost = _change(kept[-1], kept[0], seed) if kept.size else Value.missing(NO_KEPT)
    gap = Value.missing(NO_KEPT)
    if lowest.value is not None:
        gap = Value(value=float(kept[-1].mean()) - lowest.value, n=kept.shape[1])
    return Continued(
        model=role,
        stream=continuation.stream.name,
        strategy=continuation.strategy,
        tasks=[task.name for task in continuation.stream],
        ends=learning.curve.ends,
        forgotten=learning.forgotten,
        kept=kept.shape[1],
        points=_points(learning),
        comes_back=_change(forgotten[0], forgotten[-1], seed),
        highest=_extreme(forgotten, np.argmax),
        kept_lost=lost,
        kept_lowest=lowest,
        stability_gap=gap,
        metrics=_metrics(learning, kept),
    )


def _change(first: Sequence[float], second: Sequence[float], seed: int) -> Value:
    """Return the mean of second minus first over the same rows, with the bootstrap interval over rows."""
    return as_value(paired_difference(first, second, seed=seed), NO_ROWS)


def _extreme(recall: Recall, pick: Callable[[Recall], np.intp]) -> Value:
    """Return the highest (or lowest) recall of the evaluations after the first, with that evaluation's interval."""
    later = recall[1:]
    return as_value(estimate_mean(later[int(pick(later.mean(1)))].tolist(), share=True), NO_ROWS)


def _points(learning: ContinuedLearning) -> list[LearningPoint]:
    n, curve, points = learning.forgotten, learning.curve, []
    evaluations = zip(curve.step, curve.task, learning.recall, learning.probability, strict=True)
    for i, (step, task, recall, probability) in enumerate(evaluations):
        points.append(
            LearningPoint(
                step=step,
                task=task + 1,
                forgotten_recall=float(recall[:n].mean()),
                forgotten_probability=float(probability[:n].mean()),
                kept_recall=float(recall[n:].mean()) if len(recall) > n else None,
                kept_probability=float(probability[n:].mean()) if len(recall) > n else None,
                accuracy=[_finite(value) for value in curve.accuracy[i]],
                loss=[_finite(value) for value in curve.loss[i]],
            )
        )
    return points


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _metrics(learning: ContinuedLearning, kept: Recall) -> dict[str, Value]:
    """Return the metrics of continual learning; the retain rows are the first task, the stream's tasks follow."""
    if not kept.size:
        return {name: Value.missing(NO_KEPT) for name in KEPT_METRICS}
    numbers = summary(with_first_task(learning.curve, kept.mean(1).tolist()))
    return {name: Value(value=numbers[name], n=len(learning.curve.ends) + 1) for name in KEPT_METRICS}


def with_first_task(curve: Curve, accuracy: Sequence[float]) -> Curve:
    """Put one more task before a stream's first; it was learned before the first evaluation.

    Args:
        accuracy: the task's accuracy at each evaluation of the curve.
    """
    return Curve(
        tasks=curve.tasks + 1,
        step=list(curve.step),
        task=[task + 1 for task in curve.task],
        accuracy=[[first, *row] for first, row in zip(accuracy, curve.accuracy, strict=True)],
        loss=[[math.nan, *row] for row in curve.loss],
        ends=[0, *curve.ends],
    )
