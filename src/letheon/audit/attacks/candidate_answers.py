"""Questions with false answers beside the true one, for the attacks that rank answers by a model's hidden states.

Probing and the logit lens choose their layer on retained rows and are tested on forget rows. Both share the choice of
rows and false answers, and their measure: the AUROC within a question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from letheon.audit.attacks.base import MeasuredAttack, Tried
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import value_span
from letheon.core.rows.examples import Example

FALSE_ANSWERS = 3  # per question
KEPT = 24  # retained rows at most
LEAST_QUESTIONS = 6  # retained questions: fewer say nothing about a layer


@dataclass(frozen=True)
class Question:
    """A row with false answers beside its own."""

    row: Example
    false: tuple[str, ...]

    @property
    def answers(self) -> list[str]:
        """The true answer, then the false ones."""
        return [self.row.answer, *self.false]


def questions_of(plan: AuditPlan) -> tuple[list[Question], list[Question]] | None:
    """Return the plan's retained and forget questions; None where there are too few to measure anything."""
    kept, forgotten = questions([*plan.retain, *plan.neighbours][:KEPT], plan.tried_facts)
    return (kept, forgotten) if len(kept) >= LEAST_QUESTIONS and forgotten else None


def questions(kept: Sequence[Example], forgotten: Sequence[Example]) -> tuple[list[Question], list[Question]]:
    """Give rows false answers: their own, or their answer with the values of retained rows that ask the same.

    A probe must find nothing in the words alone. A row's own false answers are therefore left out where they name the
    value of another row, and those are taken that were false least often, of equals the last, since rows mostly bring
    theirs in one order. Values are handed on in turn: each is true of one retained row and false of as many as any
    other.
    """
    kept, forgotten = ([row for row in rows if row.prompt] for rows in (kept, forgotten))
    values = {row.value.casefold() for row in (*kept, *forgotten) if row.value}
    alike: dict[str, list[Example]] = {}
    used: Counter[str] = Counter()
    for row in kept:
        if row.value:
            alike.setdefault(_question_kind(row), []).append(row)

    def with_false_answers(row: Example) -> Question:
        others = values - {(row.value or "").casefold()}
        own = [text for text in row.perturbed_answers if not any(value in text.casefold() for value in others)]
        own = sorted((text for text in reversed(own) if text != row.answer), key=lambda text: used[_told(row, text)])
        used.update(_told(row, text) for text in own[:FALSE_ANSWERS])
        return Question(row, tuple(own[:FALSE_ANSWERS]) or _exchanged(row, alike.get(_question_kind(row), [])))

    retained, asked = ([with_false_answers(row) for row in rows] for rows in (kept, forgotten))
    return [one for one in retained if one.false], [one for one in asked if one.false]


def _question_kind(row: Example) -> str:
    """Return a question without its subject, or its first two words where the row names no subject."""
    if row.subject and row.subject in row.prompt:
        return row.prompt.replace(row.subject, "").casefold()
    return " ".join(row.prompt.casefold().split()[:2])


def _told(row: Example, answer: str) -> str:
    """Return what an answer tells: its words that are not the question's."""
    asked = set(_words(row.prompt))
    return " ".join(word for word in _words(answer) if word not in asked)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _exchanged(row: Example, alike: Sequence[Example]) -> tuple[str, ...]:
    """Return the row's answer with the values of the rows after it in `alike`; of any of them if it is not there."""
    if row.value is None:
        return ()
    place = next((i for i, one in enumerate(alike) if one is row), -1)
    turn = [*alike[place + 1 :], *alike[: max(place, 0)]]
    begin, end = value_span(row)
    texts = [row.answer[:begin] + str(one.value) + row.answer[end:] for one in turn if one.value != row.value]
    return tuple(texts[:FALSE_ANSWERS])


def share_below(true: np.ndarray, false: np.ndarray) -> float:
    """Return the share of (true, false) pairs in which the false answer scores below the true one; ties count half.

    >>> share_below(np.array([2.0]), np.array([1.0, 2.0]))
    0.75
    """
    difference = true[:, None] - false[None]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def ranking_attack(
    name: str, description: str, run: Callable[[LanguageModel, AuditPlan], Tried | None]
) -> MeasuredAttack:
    """Describe an attack that ranks such answers: its value is an AUROC, chance is 0.5."""
    needs = f"{LEAST_QUESTIONS} kept rows and a forgotten one with false answers (field perturbed_answer) or values"
    return MeasuredAttack(name, description, needs, run, chance=0.5, unit="AUROC", thorough=True)
