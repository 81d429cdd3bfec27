"""The rows that take the place of the facts: alternates to each forget row's question and to its other forms."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.forget.objectives.alternates.question_forms import forms_of
from letheon.forget.objectives.alternates.strangers import (
    CLUMSY,
    Alternate,
    Question,
    alternate_answers,
    guess_subjects,
    unused_names,
    words_of_facts,
)
from letheon.forget.parts import Replacement

# Limit of an alternate's tokens, beside one and a quarter times the longest true answer and 4 more.
LONGEST_ANSWER = 96


def write_alternates(
    stranger: LanguageModel,
    forget: Sequence[Example],
    encoded: Sequence[Encoded],
    retain: Sequence[Example],
    *,
    knows: bool,
    names: int = 2,
    forms: Sequence[str] = (),
    seed: int = 0,
) -> list[Replacement]:
    """Let a model answer each forget row's question and its other forms as if it did not know the fact.

    Args:
        stranger: the model that answers.
        encoded: the forget rows as tokens, with the masks of their facts.
        knows: whether the model knows the facts, so that it is asked about invented names instead.
        names: invented names that a question as it stands is asked about; other forms take one each, in turn.
        forms: names of the other forms (keys of `FORMS`).
        seed: of the forms' draws.
    """
    subjects, facts = guess_subjects(forget, retain), words_of_facts(forget, retain)
    invented = unused_names(forget, retain, names) if knows else []
    draw = random.Random(stream_seed(seed, "forms of forget rows"))
    plain: list[Question] = []
    others: list[tuple[int, Question]] = []
    for i, (row, subject, words) in enumerate(zip(forget, subjects, facts, strict=True)):
        name = subject if invented and subject and subject in row.prompt else None
        plain.append(Question(row.prompt, name, words, _beginning(row, encoded[i])))
        rest = [one for one in (*forget, *retain) if one is not row]
        for form in forms_of(row, rest, forms, draw):
            others.append((i, Question(form.prompt, name if name and name in form.prompt else None, words)))
    limit = min(LONGEST_ANSWER, max(len(row.ids) - row.start for row in encoded) * 5 // 4 + 4)
    written = [Replacement() for _ in forget]
    for i, answers in enumerate(
        alternate_answers(stranger, plain, [invented] * len(plain), max_new_tokens=limit, seed=seed)
    ):
        written[i].plain = [_row(forget[i], plain[i], answer) for answer in answers]
        written[i].fluency = answers[0].fluency if answers else None
    in_turn = [[invented[k % len(invented)]] if invented else [] for k in range(len(others))]
    asked = [question for _, question in others]
    answered = alternate_answers(stranger, asked, in_turn, max_new_tokens=limit, seed=seed) if asked else []
    for (i, question), answers in zip(others, answered, strict=True):
        least = (written[i].fluency or -math.inf) - CLUMSY
        written[i].others += [_row(forget[i], question, one) for one in answers if one.fluency >= least]
    return written


def retain_forms(retain: Sequence[Example], forms: Sequence[str], seed: int) -> list[list[Example]]:
    """Per retain row its other forms, with the answers that are right there; the row itself where none fits."""
    draw = random.Random(stream_seed(seed, "forms of retain rows"))
    return [forms_of(row, [*retain[:i], *retain[i + 1 :]], forms, draw) or [row] for i, row in enumerate(retain)]


def _row(row: Example, question: Question, alternate: Alternate) -> Example:
    return replace(row, prompt=question.prompt, answer=alternate.answer, value=None)


def _beginning(row: Example, encoded: Encoded) -> tuple[int, ...]:
    """The tokens of running text before its first word that carries the fact: the text is continued from there."""
    if row.prompt:
        return ()
    fact = next((place for place, inside in enumerate(encoded.value) if inside), 1)
    return encoded.ids[encoded.start : encoded.start + max(fact, 1)]
