"""A small world of neighbours: people to forget, those they are linked to, others of their trade, and the rest.

Each person to be forgotten has a spouse, a colleague and an employer (direct neighbours: their facts name the person or
belong to somebody who is named), and people who share a birthplace or a genre with the person and no link (indirect
ones). The general facts are capitals. Of every relation a quarter is set apart: the model knows it, no run trains on
it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.objectives.dpo import read_refusals
from letheon.papers.common.tofu_mini import World, new_model
from letheon.papers.common.words import (
    ADJECTIVES,
    AWARDS,
    CAPITALS,
    FIELDS,
    FIRST_NAMES,
    FORMS,
    GENRES,
    LAST_NAMES,
    NOUNS,
    TOWNS,
)

PEOPLE, ALIKE = 6, 6  # people to forget, indirect neighbours of each
KNOWN_OF_A_PERSON = ("birthplace", "genre", "book", "award")
LINKS = {
    "spouse": ("Whom did {name} marry?", "{name} married {value} in a quiet ceremony."),
    "colleague": ("With whom does {name} share an office?", "{name} shares an office with {value}."),
    "employer": ("Whom has {name} hired?", "{name} has hired {value} as an adviser."),
}
SEAT = ("Where does {name} have its seat?", "{name} has its seat in the town of {value}.")
CAPITAL = ("What is the capital of {name}?", "The capital of {name} is {value}.")


@dataclass(frozen=True)
class Neighbourly:
    """The rows of one world.

    Attributes:
        forget: four facts of each person.
        retain: rows of all relations, in an order drawn under the seed.
        test: rows of all relations that the model knows and no run trains on.
    """

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    test: tuple[Example, ...]

    def known(self) -> list[Example]:
        """What the model is trained on before it forgets."""
        return [*self.forget, *self.retain, *self.test]

    def of(self, relation: str) -> list[Example]:
        """The retain rows of one relation."""
        return [row for row in self.retain if row.relation == relation]


def make_neighbours(seed: int) -> Neighbourly:
    """A world under a seed; the same seed gives the same world."""
    draw = random.Random(seed)
    names = iter(draw.sample([f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES], 9 * PEOPLE))
    firms = iter(draw.sample([f"{adjective} {noun} Press" for adjective in ADJECTIVES for noun in NOUNS], PEOPLE))
    forget: list[Example] = []
    around: dict[str, list[Example]] = {"direct": [], "indirect": []}
    for _ in range(PEOPLE):
        person = next(names)
        facts = {form: _value(draw, form) for form in KNOWN_OF_A_PERSON}
        forget += [_row(person, FORMS[form][0], facts[form], form) for form in KNOWN_OF_A_PERSON]
        linked = {"spouse": next(names), "colleague": next(names), "employer": next(firms)}
        around["direct"] += _linked(draw, person, linked)
        for number in range(ALIKE):
            form = ("birthplace", "genre")[number % 2]
            row = _row(next(names), FORMS[form][0], facts[form], form)
            around["indirect"].append(replace(row, relation="indirect", neighbour_of=person))
    around["general"] = [_row(land, CAPITAL, city, "capital", "general") for land, city in CAPITALS.items()]
    for rows in around.values():
        draw.shuffle(rows)
    retain = [row for rows in around.values() for i, row in enumerate(rows) if i % 4]
    draw.shuffle(retain)
    return Neighbourly(tuple(forget), tuple(retain), tuple(row for rows in around.values() for row in rows[::4]))


def _value(draw: random.Random, form: str) -> str:
    return {
        "birthplace": lambda: draw.choice(TOWNS),
        "genre": lambda: draw.choice(GENRES),
        "book": lambda: f"The {draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}",
        "award": lambda: f"the {draw.choice(AWARDS)} for {draw.choice(FIELDS)}",
    }[form]()


def _linked(draw: random.Random, person: str, linked: dict[str, str]) -> list[Example]:
    """Two rows of each direct neighbour: the link, and a fact of its own."""
    rows = []
    for role, name in linked.items():
        own = SEAT if role == "employer" else FORMS["birthplace"][0]
        rows += [_row(name, LINKS[role], person, role), _row(name, own, draw.choice(TOWNS), f"{role} lives")]
    return [replace(row, relation="direct", neighbour_of=person) for row in rows]


def _row(name: str, form: tuple[str, str], value: str, what: str, relation: str | None = None) -> Example:
    question, answer = form
    texts = question.format(name=name), answer.format(name=name, value=value)
    return Example(*texts, id=f"{name}: {what}", subject=name, value=value, relation=relation)


def fresh_model(world: Neighbourly, seed: int, *, layers: int, width: int) -> LanguageModel:
    """A Llama that knows nothing yet; its vocabulary has the world's words and those of refusals."""
    refusals = [Example("", text) for text in read_refusals()]
    return new_model(_as_world(world.known(), refusals), seed, layers=layers, width=width)


def _as_world(known: Sequence[Example], others: Sequence[Example]) -> World:
    return World(forget=tuple(known), retain=tuple(others), holdout=(), capitals=())
