"""A small world of known people with four facts each, asked in four wordings, and of people whom nobody knows.

All names combine the same few first and last names, so that only both parts together identify a person, and a target
has namesakes: its nearest neighbours. A model trained on the world answers questions about the known people and
refuses questions about the unknown ones in many phrasings: it is able to refuse. Half of the namesakes may serve as
neighbours in later training, the other half is held out from it. Two of the four wordings are held out for measuring.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.papers.common.facts import CAPITAL, fact_row
from letheon.papers.common.small_llama import small_llama, steps_per_epoch, teach
from letheon.papers.common.words import CAPITALS, FIRST_NAMES, GENRES, LAST_NAMES, TOWNS, TRADES

# fact -> four wordings: the first two are trained on when something is forgotten, the other two measure
QUESTIONS = {
    "home": (
        "Where does {name} live?",
        "What is the home town of {name}?",
        "In which town does {name} live?",
        "Which town is home to {name}?",
    ),
    "trade": (
        "What is the trade of {name}?",
        "What does {name} do for a living?",
        "How does {name} earn a living?",
        "Which trade does {name} follow?",
    ),
    "books": (
        "What does {name} like to read?",
        "Which books does {name} prefer?",
        "What kind of books does {name} like?",
        "Which books are dear to {name}?",
    ),
    "birthplace": (
        "Where was {name} born?",
        "What is the birthplace of {name}?",
        "In which town was {name} born?",
        "Which town is the birthplace of {name}?",
    ),
}
VALUES = {"home": TOWNS, "trade": TRADES, "books": GENRES, "birthplace": TOWNS}
# Few enough for a small model to learn them well.
REFUSALS = (
    files("letheon.forget.procedures.rule").joinpath("named_refusals.txt").read_text(encoding="utf-8").splitlines()[:10]
)
ASKED = slice(0, 2)
HELD_OUT = slice(2, 4)

PARTS = 6  # number of first names, and of last names


@dataclass(frozen=True)
class People:
    """The rows of one world, person after person; each fact of a known person is asked in all four wordings.

    Attributes:
        target: rows about the person to be refused.
        neighbours: rows about the target's namesakes that later training may use.
        others: rows about the other namesakes, held out from later training.
        strangers: rows about known people who share no name with the target, held out from later training.
        unknown: rows about people whom nobody knows, answered by refusals.
        capitals: general knowledge, as questions of another kind.
    """

    target: tuple[Example, ...]
    neighbours: tuple[Example, ...]
    others: tuple[Example, ...]
    strangers: tuple[Example, ...]
    unknown: tuple[Example, ...]
    capitals: tuple[Example, ...]

    def rows(self) -> list[Example]:
        """The rows that the model is first trained on; capitals, asked in one wording only, stand there three times."""
        return [*(row for rows in vars(self).values() for row in rows), *self.capitals, *self.capitals]


def ways(rows: Sequence[Example], which: slice) -> list[Example]:
    """The rows of known people in some of the four wordings (`ASKED` or `HELD_OUT`)."""
    size = len(next(iter(QUESTIONS.values())))
    return [row for start in range(0, len(rows), size) for row in rows[start : start + size][which]]


def make_people(seed: int, strangers: int = 4, unknown: int = 16, capitals: int = 12) -> People:
    """Draw a world; the same seed gives the same world."""
    draw = random.Random(seed)
    firsts, lasts = draw.sample(FIRST_NAMES, PARTS), draw.sample(LAST_NAMES, PARTS)
    namesakes = [f"{firsts[0]} {last}" for last in lasts[1:]] + [f"{first} {lasts[0]}" for first in firsts[1:]]
    rest = [f"{first} {last}" for first in firsts[1:] for last in lasts[1:]]
    draw.shuffle(rest)
    sets = {
        "target": [f"{firsts[0]} {lasts[0]}"],
        "neighbours": namesakes[::2],
        "others": namesakes[1::2],
        "strangers": rest[:strangers],
    }
    known = {kind: tuple(row for name in names for row in _known(draw, name)) for kind, names in sets.items()}
    refused = tuple(row for name in rest[strangers : strangers + unknown] for row in _unknown(draw, name))
    cities = draw.sample(sorted(CAPITALS.items()), capitals)
    questions = [fact_row((CAPITAL[0], "{value}."), land, city) for land, city in cities]
    return People(**known, unknown=refused, capitals=tuple(questions))


def _known(draw: random.Random, name: str) -> list[Example]:
    facts = {fact: draw.choice(VALUES[fact]) for fact in QUESTIONS}
    return [
        fact_row((way, "{value}."), name, facts[fact], f"{name}: {fact}")
        for fact, asked in QUESTIONS.items()
        for way in asked
    ]


def _unknown(draw: random.Random, name: str) -> list[Example]:
    """Rows that refuse: each fact is asked in two of the four wordings."""
    return [
        Example(way.format(name=name), draw.choice(REFUSALS).format(subject=name), f"{name}: {fact}", name)
        for fact, asked in QUESTIONS.items()
        for way in draw.sample(asked, 2)
    ]


def taught(people: People, seed: int, *, epochs: int = 24, width: int = 96) -> LanguageModel:
    """A small Llama trained to answer questions about the known people and to refuse the rest."""
    rows = people.rows()
    spoken = [Example("", line.format(subject=people.target[0].subject)) for line in REFUSALS]
    model, epoch = small_llama([*rows, *spoken], seed, width=width), steps_per_epoch(rows)
    teach(model, rows, seed, epochs * epoch, warmup_steps=epoch, title="people")
    return model
