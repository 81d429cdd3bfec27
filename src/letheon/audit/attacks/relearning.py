"""Relearning: a copy of the model is trained on a few rows, and facts of other rows are measured meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from letheon.audit.measuring.evaluate import RowScores, bare, evaluate
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.measuring.merged_copy import merged_copy
from letheon.core.model.adapters import attach_lora
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings

LEAST = 1e-30  # the logarithm of a probability below it is not taken


@dataclass(frozen=True)
class RelearnPoint:
    """The held-out rows after some steps: mean probability of their facts (`fact_probability`), share of them recalled.

    `trained_loss` is the loss of the rows that are trained on (nats per token; see `loss_of_facts`), known at the first
    and the last step.
    """

    step: int
    probability: float
    recall: float
    trained_loss: float | None = None


def relearn(
    model: LanguageModel,
    train: Sequence[Example],
    watched: Sequence[Example],
    *,
    steps: int = 6,
    every: int = 1,
    learning_rate: float = 5e-5,
    seed: int = 0,
    rank: int = 0,
    start: RelearnPoint | None = None,
) -> list[RelearnPoint]:
    """Fine-tune a copy of the model on some rows; measure others before the first and after every `every` steps.

    Args:
        train: rows of the attacker.
        watched: rows that are measured; other ones than `train`, or nothing is learnt about hidden knowledge.
        every: steps between two measurements; the last step is always measured.
        rank: of a LoRA adapter that is trained, its scale twice as large; 0 trains all weights.
        start: what another curve of the same model measured before its first step.
    """
    attacked = merged_copy(model)
    parameters = attach_lora(attacked, rank, 2 * rank) if rank else None
    watched = bare(watched)
    limit = answer_limit(model, watched)
    points: list[RelearnPoint] = []
    answers: list[str | None] = [None] * len(watched)

    def measure(history: Sequence[object]) -> None:
        if len(history) % every and len(history) != steps:
            return
        if not history and start is not None:
            points.append(replace(start, trained_loss=loss_of_facts(attacked, train)))
            return
        # The answers of the step before are good guesses: most steps change few of them.
        known = evaluate(attacked, watched, drafts=answers, max_new_tokens=limit)
        answers[:] = [row.answer for row in known.rows]
        probability = float(np.mean([fact_probability(row) for row in known.rows]))
        loss = loss_of_facts(attacked, train) if len(history) in (0, steps) else None
        points.append(RelearnPoint(len(history), probability, float(np.mean(known.known("recall"))), loss))

    measure([])
    settings = TrainSettings(learning_rate=learning_rate, batch_size=min(len(train), 8), seed=seed)
    title = f"relearning: {model.name}"
    finetune(attacked, train, settings, steps, parameters=parameters, stop=measure, title=title)
    return points


def loss_of_facts(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Return the mean negative log-likelihood of the rows' facts, in nats per token.

    A fact is the tokens of a row's value, or of its whole answer where it has no value.
    """
    known = [_of_all_tokens(row) for row in evaluate(model, bare(rows), answers=False).rows]
    return float(np.mean([-math.log(max(one, LEAST)) for one in known]))


def _of_all_tokens(row: RowScores) -> float:
    return row.probability if row.value_probability is None else row.value_probability


def fact_probability(row: RowScores) -> float:
    """Return the probability of a row's fact, 0 to 1.

    It is that of its value's tokens, of running text the mean of the words that carry its facts, or that of the whole
    answer where neither is known.
    """
    return _of_all_tokens(row) if row.words_probability is None else row.words_probability


def matrix_sizes(model: LanguageModel) -> dict[str, float]:
    """Return the size of each weight matrix, adapters merged: the root of the mean square of its numbers, by its name.

    A step of training moves each number by as much in every model, so that it moves larger matrices less.
    """
    whole = merged_copy(model) if model.has_adapter else model
    matrices = {
        name: weight.detach()
        for name, weight in whole.base().named_parameters()
        if weight.ndim > 1 and weight.is_floating_point() and weight.numel()
    }
    return {
        name: float(torch.linalg.vector_norm(weight, dtype=torch.float32)) / weight.numel() ** 0.5
        for name, weight in matrices.items()
    }


def steps_to(level: float, points: Sequence[tuple[float, float]]) -> float | None:
    """Return the steps after which a curve (joined by straight lines) first reaches a level; None if it never does.

    Args:
        points: (step, value) in order of steps.
    """
    before: tuple[float, float] | None = None
    for step, value in points:
        if value >= level:
            if before is None:
                return step
            start, low = before
            return start + (step - start) * (level - low) / (value - low)
        before = (step, value)
    return None
