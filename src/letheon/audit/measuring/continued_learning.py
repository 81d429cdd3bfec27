"""Continued learning: a copy of a model learns ordinary tasks while the forget and retain rows are measured.

A model in service is trained further, on rows that have nothing to do with the deletion. What was hidden rather than
removed may return by that alone, and what the deletion weakened may go first. So a copy of the model learns a stream of
text tasks with a strategy for continual learning. The forget and retain rows are two further tasks of its accuracy
matrix, tested and never trained on: before the stream, after every task, and every few steps.

In the terms of continual learning (`letheon.retain.metrics`) the backward transfer of the forget rows is what comes
back, and the forgetting of the retain rows is what it costs. The controls are the models before and reference, which
learn the same rows in the same order: where the model before loses the facts too, their absence shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from letheon.audit.attacks.relearning import fact_probability
from letheon.audit.measuring.continuation import rows_of
from letheon.audit.measuring.evaluate import RowScores, bare, evaluate
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.measuring.merged_copy import merged_copy
from letheon.audit.plan import AuditPlan, draw
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.request import key_of
from letheon.retain.learn import learn
from letheon.retain.learner import Learner
from letheon.retain.metrics import Curve
from letheon.retain.stream import Stream

MOST_MEASURED = 64  # forget rows, and as many retain rows


def measured_rows(plan: AuditPlan, stream: Stream) -> tuple[list[Example], list[Example]]:
    """Draw forget rows with their values, and retain rows outside the stream; at most `MOST_MEASURED` of each."""
    trained = {key_of(row) for task in stream for row in rows_of(task.train, task.test)}
    retain = [row for row in plan.retain if key_of(row) not in trained]
    seed = plan.settings.seed
    drawn = (draw(rows, MOST_MEASURED, seed, "after learning") for rows in (plan.facts, retain))
    forgotten, kept = map(bare, drawn)
    return forgotten, kept


def subjects_taught(plan: AuditPlan, stream: Stream) -> int:
    """Count the stream's training rows that name a subject of the forget rows: they may teach it anew."""
    subjects = {row.subject for row in plan.facts if row.subject}
    rows = [row for task in stream for row in rows_of(task.train)]
    return sum(any(subject in f"{row.prompt} {row.answer}" for subject in subjects) for row in rows)


@dataclass(frozen=True)
class ContinuedLearning:
    """Measurements of one model on the forget and retain rows while it learned a stream.

    Attributes:
        curve: the stream's own evaluations; the rows below are measured at the same moments.
        recall: [evaluations, rows] 1 where the greedy answer gives the fact; the forget rows come first.
        probability: [evaluations, rows] probability of the fact.
        forgotten: number of forget rows.
    """

    curve: Curve
    recall: Float[np.ndarray, "evaluations rows"]
    probability: Float[np.ndarray, "evaluations rows"]
    forgotten: int


def continue_learning(model: LanguageModel, plan: AuditPlan) -> ContinuedLearning | None:
    """Let a copy of the model learn the plan's stream; return None where the plan has none."""
    continuation = plan.continuation
    if continuation is None:
        return None
    forgotten, kept = measured_rows(plan, continuation.stream)
    rows, learner_model = [*forgotten, *kept], merged_copy(model)
    limit = answer_limit(model, rows)
    answers: list[str | None] = [None] * len(rows)
    evaluations: dict[tuple[int, int], list[RowScores]] = {}

    def measure(learner: Learner) -> None:
        # The last evaluation's answers are good drafts: a few steps change few of them.
        scores = evaluate(learner_model, rows, drafts=answers, max_new_tokens=limit).rows
        answers[:] = [row.answer for row in scores]
        evaluations[learner.step, learner.task] = scores  # as in the curve, the newest one per step and task counts

    learned = learn(
        learner_model,
        continuation.stream,
        continuation.strategy,
        settings=continuation.settings,
        on_evaluation=measure,
    )
    return ContinuedLearning(
        learned.curve,
        np.array([[row.recall or 0.0 for row in scores] for scores in evaluations.values()]),
        np.array([[fact_probability(row) for row in scores] for scores in evaluations.values()]),
        len(forgotten),
    )
