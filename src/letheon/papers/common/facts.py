"""Facts about invented people: names and values drawn under a seed, and the rows that ask about them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from letheon.core.rows.examples import Example
from letheon.papers.common.words import (
    ADJECTIVES,
    AWARDS,
    FIELDS,
    FIRST_NAMES,
    GENRES,
    LAST_NAMES,
    NOUNS,
    TOWNS,
    TRADES,
)

Form = tuple[str, str]  # a question and its answer, with `{name}` and `{value}` in them

CAPITAL: Form = ("What is the capital of {name}?", "The capital of {name} is {value}.")
# fact -> a value drawn for it; `words.FORMS` has the questions
VALUES: dict[str, Callable[[random.Random], str]] = {
    "birthplace": lambda draw: draw.choice(TOWNS),
    "year": lambda draw: str(draw.randint(1901, 1990)),
    "genre": lambda draw: draw.choice(GENRES),
    "book": lambda draw: f"The {draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}",
    "award": lambda draw: f"the {draw.choice(AWARDS)} for {draw.choice(FIELDS)}",
    "parents": lambda draw: " and ".join(f"a {trade}" for trade in draw.sample(TRADES, 2)),
}


def draw_names(draw: random.Random, count: int) -> list[str]:
    """Different full names in random order."""
    return draw.sample([f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES], count)


def fact_row(form: Form, name: str, value: str, identity: str = "", **fields: Any) -> Example:
    """The row that asks for one fact in one form.

    Args:
        fields: further fields of the `Example`.
    """
    question, answer = (text.format(name=name, value=value) for text in form)
    return Example(question, answer, identity, name, value, **fields)
