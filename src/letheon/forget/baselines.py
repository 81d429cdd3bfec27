"""The baselines that leave a model's weights as they are, measured on a request: what a deletion has to beat.

A context before every question, a filter on every answer (`letheon.forget.guards`), and the erasure of a linear concept
at one layer (LEACE, `letheon.probe.erasure`). Whoever holds the weights still holds the knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.overlap import rouge_l_recall
from letheon.forget.guards import Guardrail, InContext
from letheon.forget.request import Request
from letheon.probe.erasure import concept_states, erased, fit_eraser

Ask = Callable[[str], str]  # what is asked in a question's place


@dataclass(frozen=True)
class Behaviour:
    """What a model says behind one baseline, means over rows.

    Attributes:
        name: the baseline; `none` is the model as it is.
        forget_rouge, retain_rouge: ROUGE-L recall of the greedy answers, 0 to 1.
        forget_probability, retain_probability: exp of the mean log-probability per token of the true answers; None
            where only answers are changed.
    """

    name: str
    forget_rouge: float
    retain_rouge: float
    forget_probability: float | None
    retain_probability: float | None


def check_rows(request: Request) -> None:
    """Refuse a request without retain rows, with running text or with nothing to filter (`InputError`)."""
    rows = [*request.forget, *request.retain]
    if not request.retain or not all(row.prompt for row in rows):
        raise InputError("the baselines ask questions about both sides", "give forget and retain rows with questions")
    if not any(row.subject or row.value for row in request.forget):
        raise InputError("no forget row has a subject or a value: a guardrail has nothing to look for", "add a field")


def check_layer(layer: int, model: nn.Module) -> None:
    """Refuse the number of a block that the model does not have (`InputError`)."""
    many = len(blocks(model))
    if not 0 <= layer < many:
        raise InputError(f"layer {layer} of a model with {many} layers", f"give a layer from 0 to {many - 1}")


def measure_baselines(
    model: LanguageModel,
    request: Request,
    *,
    others: int = 4,
    layer: int | None = None,
    max_new_tokens: int = 64,
    seed: int = 0,
) -> list[Behaviour]:
    """Measure the model as it is and behind every baseline; its weights stay as they are.

    Args:
        others: retain rows that the context shows with their true answers.
        layer: the block at whose output the concept "forget row" is erased, at every position; None: the middle one.

    Raises:
        InputError: no retain rows, running text, or no such layer.
    """
    check_rows(request)
    layer = len(blocks(model.base())) // 2 if layer is None else layer
    check_layer(layer, model.base())
    context, guard = InContext(request, others, seed), Guardrail(request)

    def said(rows: Sequence[Example], ask: Ask = str) -> list[str]:
        return generate(model, [ask(row.prompt) for row in rows], max_new_tokens=max_new_tokens)

    def behaviour(name: str, ask: Ask = str) -> Behaviour:
        sides = (request.forget, request.retain)
        return Behaviour(name, *(_rouge(said(rows, ask), rows) for rows in sides), *_probabilities(model, sides, ask))

    filtered = [
        guard.answer(model, [row.prompt for row in rows], max_new_tokens) for rows in (request.forget, request.retain)
    ]
    found = [behaviour("none"), behaviour("in-context", context.prompt)]
    found.append(
        Behaviour("guardrail", _rouge(filtered[0], request.forget), _rouge(filtered[1], request.retain), None, None)
    )
    with erased(model, layer, fit_eraser(*concept_states(model, request.forget, request.retain, layer))):
        return [*found, behaviour(f"leace, layer {layer}")]


def _rouge(answers: Sequence[str], rows: Sequence[Example]) -> float:
    return float(np.mean([rouge_l_recall(answer, row.answer) for answer, row in zip(answers, rows, strict=True)]))


def _probabilities(model: LanguageModel, sides: Sequence[Sequence[Example]], ask: Ask) -> list[float]:
    scored = [score_answers(model, [(ask(row.prompt), [row.answer]) for row in rows]) for rows in sides]
    return [float(np.mean([answers[0].probability for answers in rows])) for rows in scored]
