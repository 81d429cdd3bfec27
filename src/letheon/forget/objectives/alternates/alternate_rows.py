"""The rows that take the place of the facts: alternates to each forget row's question and in its other forms."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.forget.objectives.alternates.question_forms import forms_of
from letheon.forget.objectives.alternates.strangers import (
    Question,
    alternate_answers,
    guess_subjects,
    in_both_spellings,
    told_beside,
    unused_names,
    words_of_facts,
)
from letheon.forget.parts import Replacement

# Limit of an alternate's tokens, beside one and a quarter times those of the true answer and 4 more.
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
    """Let a model answer each forget row's question as if it did not know the fact.

    The answers are written once, to the question as it stands, and take the true answer's place in its other forms.

    Args:
        stranger: the model that answers.
        encoded: the forget rows as tokens, with the masks of their facts.
        knows: whether the model knows the facts, so that it is asked about invented names instead.
        names: invented names that a question is asked about.
        forms: names of the other forms (keys of `FORMS`).
        seed: of the forms' draws.
    """
    subjects, facts = guess_subjects(forget, retain), words_of_facts(forget, retain)
    beside = told_beside(forget, subjects, facts)
    invented = unused_names(forget, retain, names) if knows else []
    questions = [
        Question(
            row.prompt,
            subject if invented and subject and subject in row.prompt else None,
            in_both_spellings((*words, *more)),
            _beginning(row, tokens),
            min(LONGEST_ANSWER, (len(tokens.ids) - tokens.start) * 5 // 4 + 4),
        )
        for row, tokens, subject, words, more in zip(forget, encoded, subjects, facts, beside, strict=True)
    ]
    draw = random.Random(stream_seed(seed, "forms of forget rows"))
    written = []
    for i, answers in enumerate(alternate_answers(stranger, questions, invented, seed=seed)):
        rest = [*forget[:i], *forget[i + 1 :], *retain]
        made = [form for one in answers for form in forms_of(forget[i], rest, forms, draw, one.answer)]
        written.append(
            Replacement(
                [replace(forget[i], answer=one.answer, value=None) for one in answers],
                [replace(form, value=None) for form in made],
                answers[0].fluency if answers else None,
            )
        )
    return written


def retain_forms(retain: Sequence[Example], forms: Sequence[str], seed: int) -> list[list[Example]]:
    """Per retain row its other forms, with the answers that are right there; the row itself where none fits."""
    draw = random.Random(stream_seed(seed, "forms of retain rows"))
    return [forms_of(row, [*retain[:i], *retain[i + 1 :]], forms, draw) or [row] for i, row in enumerate(retain)]


def _beginning(row: Example, encoded: Encoded) -> tuple[int, ...]:
    """The tokens of running text before its first word that carries the fact: the text is continued from there."""
    if row.prompt:
        return ()
    fact = next((place for place, inside in enumerate(encoded.value) if inside), 1)
    return encoded.ids[encoded.start : encoded.start + max(fact, 1)]
