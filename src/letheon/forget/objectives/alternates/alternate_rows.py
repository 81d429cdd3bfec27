"""The rows that take the place of the facts: alternates to each forget row's question and in its other forms."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded, Encoder
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.forget.objectives.alternates.accepted import Question, endings_of_names, fact_of, numbers_of
from letheon.forget.objectives.alternates.own_answers import alternate_answers
from letheon.forget.objectives.alternates.question_forms import (
    Bare,
    forms_of,
    plain_question,
    plain_words,
    shared,
    with_found_values,
)
from letheon.forget.objectives.alternates.running_texts import Continued, beginnings
from letheon.forget.objectives.alternates.strangers import (
    guess_subjects,
    in_both_spellings,
    parts_in,
    short_forms,
    stems_of,
    told_beside,
    unused_names,
    words_of_facts,
)
from letheon.forget.parts import Replacement

# Limit of an alternate's tokens, beside one and a quarter times those of the true answer and 4 more.
LONGEST_ANSWER = 96
# Kept rows that stand before a question in plain text.
SHOTS = 4


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
        forms: names of the other forms (keys of `FORMS`, and `LATER`).
        seed: of the forms' draws.
    """
    invented = unused_names(forget, retain, names) if knows else []
    questions = _questions(stranger, forget, encoded, retain, bool(invented))
    shown, others = with_found_values(forget, retain, guess_subjects(forget, retain))
    draw = random.Random(stream_seed(seed, "forms of forget rows"))
    written, levels = [Replacement() for _ in forget], [list[float]() for _ in forget]
    found = alternate_answers(stranger, [question for _, question in questions], invented, seed=seed)
    for (i, question), answers in zip(questions, found, strict=True):
        row, rest = forget[i], [*shown[:i], *shown[i + 1 :], *others]
        given = stranger.tokenizer.decode(question.beginning, skip_special_tokens=True)
        for one in answers:
            text = None if row.prompt else Continued("", given + one.answer, id=row.id, given=given)
            written[i].plain.append(text or replace(row, answer=one.answer, value=None))
            turned = that_fit(stranger.encoder(), forms_of(text or shown[i], rest, forms, draw, one.answer))
            written[i].others.extend(replace(form, value=None) for form in turned)
        levels[i] += [one.fluency for one in answers[:1]]
    for replacement, known in zip(written, levels, strict=True):
        replacement.fluency = sum(known) / len(known) if known else None
    return written


def _questions(
    stranger: LanguageModel,
    forget: Sequence[Example],
    encoded: Sequence[Encoded],
    retain: Sequence[Example],
    named: bool,
) -> list[tuple[int, Question]]:
    """The questions to be answered as if the facts were unknown, each with its forget row's number.

    Args:
        named: whether there are invented names to replace the subjects.
    """
    subjects, facts = guess_subjects(forget, retain), words_of_facts(forget, retain)
    beside, kept = told_beside(forget, subjects, facts), parts_in("\n".join(row.answer for row in retain))
    endings = endings_of_names(retain)
    rows = zip(forget, encoded, subjects, facts, beside, strict=True)
    return [
        (
            i,
            Question(
                row.prompt,
                subject if named and subject and subject in row.prompt else None,
                in_both_spellings((*words, *more), kept, f"{row.prompt} {subject or ''}"),
                beginning,
                min(LONGEST_ANSWER, (len(tokens.ids) - tokens.start - len(beginning)) * 5 // 4 + 4),
                _shots(row, subject, retain),
                endings,
                fact_of(row.answer) if row.prompt else "",
                (*_values(row, words), *short_forms(words)),
                stems_of((*words, *more), kept, f"{row.prompt} {subject or ''}"),
            ),
        )
        for i, (row, tokens, subject, words, more) in enumerate(rows)
        for beginning in beginnings(stranger, row, tokens)
    ]


def _values(row: Example, words: Sequence[str]) -> tuple[str, ...]:
    return (row.value,) if row.value and fact_of(row.value) else numbers_of(row.answer, words)


def retain_forms(
    encoder: Encoder, retain: Sequence[Example], wanted: Iterable[int], forms: Sequence[str], seed: int
) -> dict[int, list[Example]]:
    """Per wanted retain row its other forms, with the answers that are right there; the row itself where none fits."""
    draw = random.Random(stream_seed(seed, "forms of retain rows"))
    made = {i: forms_of(retain[i], [*retain[:i], *retain[i + 1 :]], forms, draw) for i in wanted}
    return {i: that_fit(encoder, found) or [retain[i]] for i, found in made.items()}


def that_fit(encoder: Encoder, rows: Sequence[Example]) -> list[Example]:
    """The rows that have no more tokens than the model's context."""

    def size(row: Example) -> int:
        bare = plain_question(encoder, row.prompt) if isinstance(row, Bare) else ()
        return max(len(encoder.prompt(row.prompt)), len(bare)) + len(encoder.answer(row.answer)[0])

    return [row for row in rows if size(row) <= encoder.context_length]


def _shots(row: Example, subject: str | None, retain: Sequence[Example]) -> tuple[Example, ...]:
    """The kept rows whose questions share the largest part of their words with the row's, the likest last."""
    own, asked = plain_words(row.prompt, subject), [kept for kept in retain if kept.prompt]
    likest = sorted(asked, key=lambda kept: -shared(own, plain_words(kept.prompt, kept.subject)))[:SHOTS]
    return tuple(reversed(likest)) if row.prompt else ()
