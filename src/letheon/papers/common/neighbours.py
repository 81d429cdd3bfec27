"""A small world of people to be forgotten and their direct, indirect and general neighbours.

Each person to be forgotten has a spouse, a colleague and an employer (direct neighbours: their facts name the person,
or belong to somebody whose facts do), and people who share a birthplace or a genre with the person without a link
(indirect neighbours). The general facts are capitals. A quarter of every relation is held out: the model knows it and
no later run trains on it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.forget.objectives.dpo import read_refusals
from letheon.papers.common.facts import CAPITAL, VALUES, Form, draw_names, fact_row
from letheon.papers.common.small_llama import small_llama
from letheon.papers.common.words import ADJECTIVES, CAPITALS, FORMS, NOUNS, TOWNS

PEOPLE, ALIKE = 6, 6  # people to be forgotten, indirect neighbours per person
KNOWN_OF_A_PERSON = ("birthplace", "genre", "book", "award")
LINKS = {
    "spouse": ("Whom did {name} marry?", "{name} married {value} in a quiet ceremony."),
    "colleague": ("With whom does {name} share an office?", "{name} shares an office with {value}."),
    "employer": ("Whom has {name} hired?", "{name} has hired {value} as an adviser."),
}
SEAT = ("Where does {name} have its seat?", "{name} has its seat in the town of {value}.")


@dataclass(frozen=True)
class Neighbourly:
    """The rows of one world."""

    forget: tuple[Example, ...]  # four facts per person to be forgotten
    retain: tuple[Example, ...]  # rows of all relations, in random order
    test: tuple[Example, ...]  # rows of all relations that the model knows and that no later run trains on

    def known(self) -> list[Example]:
        """The rows that the model is trained on before it forgets."""
        return [*self.forget, *self.retain, *self.test]

    def of(self, relation: str) -> list[Example]:
        """The retain rows of one relation."""
        return [row for row in self.retain if row.relation == relation]


def make_neighbours(seed: int) -> Neighbourly:
    """Draw a world; the same seed gives the same world."""
    draw = random.Random(seed)
    names = iter(draw_names(draw, 9 * PEOPLE))
    firms = iter(draw.sample([f"{adjective} {noun} Press" for adjective in ADJECTIVES for noun in NOUNS], PEOPLE))
    forget: list[Example] = []
    around: dict[str, list[Example]] = {"direct": [], "indirect": []}
    for _ in range(PEOPLE):
        person = next(names)
        facts = {fact: VALUES[fact](draw) for fact in KNOWN_OF_A_PERSON}
        forget += [_row(person, FORMS[fact][0], value, fact) for fact, value in facts.items()]
        linked = {"spouse": next(names), "colleague": next(names), "employer": next(firms)}
        around["direct"] += _linked(draw, person, linked)
        for number in range(ALIKE):
            fact = ("birthplace", "genre")[number % 2]
            beside = {"relation": "indirect", "neighbour_of": person}
            around["indirect"].append(_row(next(names), FORMS[fact][0], facts[fact], fact, **beside))
    around["general"] = [_row(land, CAPITAL, city, "capital", relation="general") for land, city in CAPITALS.items()]
    for rows in around.values():
        draw.shuffle(rows)
    retain = [row for rows in around.values() for i, row in enumerate(rows) if i % 4]
    draw.shuffle(retain)
    return Neighbourly(tuple(forget), tuple(retain), tuple(row for rows in around.values() for row in rows[::4]))


def _linked(draw: random.Random, person: str, linked: dict[str, str]) -> list[Example]:
    """Two rows per direct neighbour: its link to the person, and a fact of its own."""
    rows = []
    for role, name in linked.items():
        own = SEAT if role == "employer" else FORMS["birthplace"][0]
        beside = {"relation": "direct", "neighbour_of": person}
        rows.append(_row(name, LINKS[role], person, role, **beside))
        rows.append(_row(name, own, draw.choice(TOWNS), f"{role} lives", **beside))
    return rows


def _row(name: str, form: Form, value: str, what: str, **fields: str) -> Example:
    return fact_row(form, name, value, f"{name}: {what}", **fields)


def fresh_model(world: Neighbourly, seed: int, *, layers: int, width: int) -> LanguageModel:
    """A Llama with random weights; its vocabulary has the world's words and those of refusals."""
    refusals = [Example("", text) for text in read_refusals()]
    return small_llama([*world.known(), *refusals], seed, layers=layers, width=width)
