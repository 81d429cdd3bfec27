"""Other forms of a row: options, a begun sentence, a told question, plain text, a statement to judge, a later part.

Ours, of no paper. A model that unlearns one sentence may still give the fact in another form. No attack of the audit
has the words around a question that a form here has (a test compares them); none has `bare`, but for `own_template`
where a model came without a chat template. The forms themselves are those of attacks: `multiple_choice` offers options;
`plain_text`, `first_token_prefix` and `value_prefix` begin the answer; `plain_text` leaves the chat template away too;
`text_last_words` leaves out how a text begins. A model that was trained on these forms withstands those attacks more
easily than attacks of other kinds, and its audit marks them (`letheon.audit.record.trained_forms`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from letheon.core.rows.encoding import Encoded, Encoder, value_span
from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.word_masks import WordRules, fact_words, span_of_fact
from letheon.forget.objectives.alternates.fitting import encoded_plainly
from letheon.forget.objectives.alternates.running_texts import from_later_on
from letheon.forget.objectives.alternates.strangers import names_in

OPTIONS = "{question} Choose from: {options}."
BEGUN = "Finish this sentence: {beginning}"
TOLD = "My neighbour would like to hear something about this: {question}"
JUDGED = "Is it true that {statement}?"
WRONG_OPTIONS = 3
# Most words of a value that is found for a form, and least share of them that carry the fact.
MOST_WORDS, OF_THE_FACT = 12, 0.5
# Least share of words that another question has in common with the row's for its value to stand beside a found one:
# both are asked in one template, or a year stands beside cities.
LIKE = 0.6


class Form(Protocol):
    """Puts a row into another form; None where the form does not fit the row.

    Args:
        others: rows whose values may stand beside the row's own.
        alternate: the answer that takes the true one's place; None gives the answer that is right.
    """

    def __call__(
        self, row: Example, others: Sequence[Example], draw: random.Random, alternate: str | None
    ) -> Example | None: ...


def options(row: Example, others: Sequence[Example], draw: random.Random, alternate: str | None) -> Example | None:
    """The question with the row's value among three values of rows with a like question.

    The alternate is the true answer with one of the three others, so that the answer is one of those offered. It is
    never the right one, which a model without the fact would choose by chance.
    """
    if row.value is None or len(wrong := _like_values(row, others)) < WRONG_OPTIONS:
        return None
    offered = [*draw.sample(wrong[: 2 * WRONG_OPTIONS], WRONG_OPTIONS), row.value]
    answer = row.answer if alternate is None else _with_value(row, offered[0])
    draw.shuffle(offered)
    return replace(row, prompt=OPTIONS.format(question=row.prompt, options="; ".join(offered)), answer=answer)


def begun(row: Example, others: Sequence[Example], draw: random.Random, alternate: str | None) -> Example | None:
    """The answer up to its value, to be finished."""
    beginning = row.answer[: value_span(row)[0]].strip() if row.value else ""
    named = " " in beginning and (row.subject or "") in beginning
    return replace(row, prompt=BEGUN.format(beginning=beginning), answer=alternate or row.answer) if named else None


def told(row: Example, others: Sequence[Example], draw: random.Random, alternate: str | None) -> Example | None:
    """The question as somebody else's."""
    return replace(row, prompt=TOLD.format(question=row.prompt), answer=alternate or row.answer)


def judged(row: Example, others: Sequence[Example], draw: random.Random, alternate: str | None) -> Example | None:
    """The answer as a statement to judge: as often the true one as one with the value of a row with a like question.

    With an alternate it is the true one, and denied.
    """
    if row.value is None or (row.subject or "") not in row.answer or not (wrong := _like_values(row, others)):
        return None
    true = alternate is not None or draw.random() < 0.5
    statement = row.answer if true else _with_value(row, draw.choice(wrong[: 2 * WRONG_OPTIONS]))
    answer = f"{'Yes' if true and alternate is None else 'No'}, {alternate or row.answer}"
    return replace(row, prompt=JUDGED.format(statement=statement.rstrip(" .!")), answer=answer)


class Bare(Example):
    """A question in plain text."""

    def learned(self, encoder: Encoder, encoded: Encoded) -> Encoded:
        """The row as tokens, see `without_template`."""
        return without_template(encoder, self, encoded)


def plain_question(encoder: Encoder, question: str) -> tuple[int, ...]:
    """The tokens of a question as a line of plain text, behind that which begins a sequence."""
    return encoded_plainly(encoder, f"{question}\n")


def without_template(encoder: Encoder, row: Example, encoded: Encoded) -> Encoded:
    """A question's tokens without the chat template: the question as a line, the answer below."""
    asked = plain_question(encoder, row.prompt)
    return replace(encoded, ids=(*asked, *encoded.ids[encoded.start :]), start=len(asked))


def bare(row: Example, others: Sequence[Example], draw: random.Random, alternate: str | None) -> Example | None:
    """The question without the chat template."""
    return Bare(**{**vars(row), "answer": alternate or row.answer})


class Found(Example):
    """A row that names no value, with one that was found in its answer."""


def with_found_values(
    forget: Sequence[Example], retain: Sequence[Example], subjects: Sequence[str | None]
) -> tuple[list[Example], list[Example]]:
    """Find a value for each row that names none, for its forms.

    The value is `span_of_fact`, if that is short and most of its words carry the fact. A row without a subject gets one
    too: a forget row that of `subjects`, a retain row the first name in its question.
    """
    rules = WordRules.of(forget, retain)

    def filled(row: Example, subject: str | None) -> Example:
        value = span_of_fact(row, rules) if row.prompt and row.value is None else ""
        size = len(value.split())
        short = 0 < size <= MOST_WORDS and len(fact_words(row, rules)) >= OF_THE_FACT * size
        row = replace(row, subject=row.subject or subject)
        return Found(**{**vars(row), "value": value}) if short else row

    named = [next((name for name in names_in(row.prompt) if name in row.prompt), None) for row in retain]
    return (
        [filled(row, one) for row, one in zip(forget, subjects, strict=True)],
        [filled(row, one) for row, one in zip(retain, named, strict=True)],
    )


FORMS: dict[str, Form] = {"options": options, "begun": begun, "told": told, "bare": bare, "judged": judged}
# The form of running text.
LATER = "later"


def forms_of(
    row: Example, others: Sequence[Example], names: Sequence[str], draw: random.Random, alternate: str | None = None
) -> list[Example]:
    """A row in each of the named forms that fits it; running text from each of its later places on, see `LATER`.

    Args:
        others: rows whose values may stand beside the row's own.
        names: keys of `FORMS`, and `LATER`.
        alternate: the answer that takes the true one's place.
    """
    if not row.prompt:
        return from_later_on(row) if LATER in names else []
    made = (FORMS[name](row, others, draw, alternate) for name in names if name != LATER)
    return [form for form in made if form is not None]


def _with_value(row: Example, value: str) -> str:
    """The row's answer with another value."""
    begin, end = value_span(row)
    return row.answer[:begin] + value + row.answer[end:]


def _like_values(row: Example, others: Sequence[Example]) -> list[str]:
    """Values of other rows, those first whose question shares the largest part of its words with the row's.

    Beside a value that was found they share `LIKE` of them. Values that contain the row's own, or are contained in it,
    are left out.
    """
    own, question = (row.value or "").casefold(), plain_words(row.prompt, row.subject)
    ranks = [(shared(question, plain_words(other.prompt, other.subject)), other.value) for other in others]
    least = LIKE if isinstance(row, Found) else 0.0
    near = sorted((pair for pair in ranks if pair[0] >= least), key=lambda pair: -pair[0])
    values = dict.fromkeys(value for _, value in near if value)
    return [value for value in values if value.casefold() not in own and own not in value.casefold()]


@lru_cache(maxsize=100_000)
def plain_words(question: str, subject: str | None) -> frozenset[str]:
    """The words of a question without those of its subject."""
    return frozenset(word.lower() for word in WORD.findall(question.replace(subject or "\n", "")))


def shared(first: frozenset[str], second: frozenset[str]) -> float:
    """The share of two questions' words that both have."""
    return len(first & second) / max(len(first | second), 1)
