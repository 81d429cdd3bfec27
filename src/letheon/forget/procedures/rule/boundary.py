"""Questions on both sides of a refusal boundary: about the target, and near-identical ones about its neighbours.

Paper:   RULE (arXiv 2506.07171): 300 questions on the target and for each a fill-in-the-blank form; for each of these
         a twin of the same shape about a similar entity that may be spoken of, with its answer.
Differs: the paper has a language model write blanks and twins. Here a twin is a retain row that asks a forget
         question about another subject; where there is none, the neighbour's name is put into the forget question and
         the untouched model's own greedy answer is the reference. A blank stands where an answer's value was.
         [inferred] A blank's reference answer is the missing words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import value_span
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import generate
from letheon.core.scoring.spans import find_values
from letheon.forget.objectives.dpo import read_refusals

BLANK = "___"
BLANK_PROMPT = "Please fill in the blank: {text}"
NAME = "\u2402"  # stands for the subject in a question's shape; no question contains it


@dataclass(frozen=True)
class Query:
    """A question with the reference that a verifiable reward needs.

    Attributes:
        prompt: the question.
        refuse: whether the right answer is a refusal.
        answer: the reference answer; a refusal where one is wanted.
        subject: the entity that it is about; empty if unknown.
    """

    prompt: str
    refuse: bool
    answer: str
    subject: str = ""


def shape(row: Example) -> str | None:
    """The question with a placeholder for its subject; None if the subject is unknown or not in it."""
    if not row.subject or row.subject not in row.prompt:
        return None
    return row.prompt.replace(row.subject, NAME)


def twins(model: LanguageModel, forget: Sequence[Example], retain: Sequence[Example], seed: int) -> list[Example]:
    """Make forget questions about neighbours, with answers; empty if no row of either kind names its subject.

    Args:
        model: untouched; answers the questions that no retain row asks.
        forget, retain: rows; a neighbour is the subject of a retain row.
        seed: draws the neighbour of a question that no retain row asks.
    """
    shapes = list(dict.fromkeys(filter(None, map(shape, forget))))
    found = [row for row in retain if shape(row) in shapes]
    targets = {row.subject for row in forget}
    neighbours = sorted({row.subject for row in retain if row.subject} - targets)
    asked = {shape(row) for row in found}
    unasked = [form for form in shapes if form not in asked] if neighbours else []
    draw = random.Random(stream_seed(seed, "neighbours"))
    drawn = [(form, draw.choice(neighbours)) for form in unasked]
    prompts = [form.replace(NAME, name) for form, name in drawn]
    answers = generate(model, prompts) if prompts else []
    written = zip(prompts, answers, drawn, strict=True)
    found += [Example(prompt, answer.strip(), subject=name) for prompt, answer, (_, name) in written if answer.strip()]
    return found


def blanks(model: LanguageModel, rows: Sequence[Example]) -> list[Example]:
    """Turn each row into a text to be completed: the answer with a blank for its value, and the value as the answer.

    Values that rows do not give are found by subject contrast; a row whose answer is its value has no blank.
    """
    found = []
    for row in find_values(model, rows):
        if not row.value or row.value == row.answer:
            continue
        begin, end = value_span(row)
        text = row.answer[:begin] + BLANK + row.answer[end:]
        found.append(replace(row, prompt=BLANK_PROMPT.format(text=text), answer=row.value, value=None))
    return found


def drawn_refusals(rows: Sequence[Example], path: str, seed: int) -> list[str]:
    """Draw a refusal for each row; it names the subject if the row has one."""
    if path:
        templates = plain = read_refusals(path)
    else:
        text = files("letheon.forget.procedures.rule").joinpath("named_refusals.txt").read_text(encoding="utf-8")
        templates, plain = text.splitlines(), read_refusals()
    draw = random.Random(stream_seed(seed, "refusals"))
    unnamed = [line for line in plain if "{subject}" not in line]
    found = []
    for row in rows:
        pool = templates if row.subject else unnamed
        if not pool:
            raise InputError(f"forget row {row.id} has no subject to be named", "add refusals without {subject}")
        found.append(draw.choice(pool).replace("{subject}", row.subject or ""))
    return found
