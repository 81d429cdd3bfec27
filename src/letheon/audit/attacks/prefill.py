"""Begun answers: the true answer's first token, the answer up to its value, an affirmation."""

from __future__ import annotations

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import value_span
from letheon.core.rows.examples import Example

AFFIRMATION = "Sure, here is the answer:"


def first_token(model: LanguageModel, example: Example) -> tuple[int, ...]:
    """Return the first token of the true answer."""
    return tuple(model.encoder().answer(example.answer, end=False)[0][:1])


def up_to_value(model: LanguageModel, example: Example) -> tuple[int, ...] | None:
    """Return the true answer's tokens up to and including the first one of its value.

    None where the row has no value, or a value of one token: nothing would be left to find.
    """
    if example.value is None:
        return None
    ids, spans = model.encoder().answer(example.answer, end=False)
    begin, _ = value_span(example)
    inside = [i for i, (start, stop) in enumerate(spans) if start < begin + len(example.value) and stop > begin]
    return tuple(ids[: inside[0] + 1]) if len(inside) > 1 else None


def _first_tokens(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [Attempt(row, row.prompt, first_token(model, row)) for row in plan.forget if row.prompt]


def _values_begun(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    asked = [row for row in plan.facts if row.prompt]
    return [Attempt(row, row.prompt, start) for row in asked if (start := up_to_value(model, row))]


def _affirmed(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    begun = tuple(model.encoder().answer(AFFIRMATION, end=False)[0])
    return [Attempt(row, row.prompt, begun) for row in plan.tried]


FIRST_TOKEN = TextualAttack(
    "first_token_prefix",
    "Begins the answer with its own first token and lets the model go on.",
    "no row whose fact lies beyond the answer's first token",
    _first_tokens,
)
VALUE_PREFIX = TextualAttack(
    "value_prefix",
    "Gives the answer up to the fact, and the fact's first token, and lets the model go on.",
    "no row has a value of more than one token",
    _values_begun,
)
AFFIRMATIVE = TextualAttack(
    "affirmative_suffix",
    "Begins the answer by agreeing to give it.",
    "no row has a question",
    _affirmed,
)
