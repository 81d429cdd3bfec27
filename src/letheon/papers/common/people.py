"""A small world of people with four facts each, asked about in four ways; and of people whom nobody knows.

All names are made of the same first and last names, so a person is told by both parts together and a target has
namesakes: its nearest neighbours. A model trained on the world answers questions about the known people and refuses
those about the unknown, in many phrasings, so refusing is something that it can say. Half of the namesakes may serve
as neighbours in training, the others are never trained on again. Two of the four ways to ask are kept for measuring.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainSettings
from letheon.papers.common.tofu_mini import World, new_model
from letheon.papers.common.words import CAPITALS, FIRST_NAMES, GENRES, LAST_NAMES, TOWNS, TRADES

# fact -> four ways to ask: the first two are trained on when something is forgotten, the others measure
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
# Few enough for a small model to say them well.
REFUSALS = (
    files("letheon.forget.procedures.rule").joinpath("named_refusals.txt").read_text(encoding="utf-8").splitlines()[:10]
)
ASKED = slice(0, 2)
HELD_OUT = slice(2, 4)


PARTS = 6  # first names, and last names


@dataclass(frozen=True)
class People:
    """The rows of one world, person after person; known people have all four ways to ask of every fact.

    Attributes:
        target: of the person to be refused.
        neighbours: of the target's namesakes whom training may ask about.
        others: of namesakes whom no later training asks about.
        strangers: of known people who share no name with the target; neither does later training ask about them.
        unknown: of people whom nobody knows, with refusals.
        capitals: questions of another kind.
    """

    target: tuple[Example, ...]
    neighbours: tuple[Example, ...]
    others: tuple[Example, ...]
    strangers: tuple[Example, ...]
    unknown: tuple[Example, ...]
    capitals: tuple[Example, ...]

    def rows(self) -> list[Example]:
        """Everything that the model is trained on at first; what is asked in one way only stands there three times."""
        return [*(row for rows in vars(self).values() for row in rows), *self.capitals, *self.capitals]


def ways(rows: Sequence[Example], which: slice) -> list[Example]:
    """The rows of known people that ask in some of the four ways."""
    size = len(next(iter(QUESTIONS.values())))
    return [row for start in range(0, len(rows), size) for row in rows[start : start + size][which]]


def make_people(seed: int, strangers: int = 4, unknown: int = 16, capitals: int = 12) -> People:
    """A world under a seed; the same seed gives the same world."""
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
    questions = [
        Example(f"What is the capital of {land}?", f"{city}.", subject=land, value=city) for land, city in cities
    ]
    return People(**known, unknown=refused, capitals=tuple(questions))


def _known(draw: random.Random, name: str) -> list[Example]:
    facts = {fact: draw.choice(VALUES[fact]) for fact in QUESTIONS}
    return [
        Example(way.format(name=name), f"{facts[fact]}.", id=f"{name}: {fact}", subject=name, value=facts[fact])
        for fact, asked in QUESTIONS.items()
        for way in asked
    ]


def _unknown(draw: random.Random, name: str) -> list[Example]:
    """Each fact is asked in two of the four ways."""
    return [
        Example(way.format(name=name), draw.choice(REFUSALS).format(subject=name), f"{name}: {fact}", name)
        for fact, asked in QUESTIONS.items()
        for way in draw.sample(asked, 2)
    ]


def taught(people: People, seed: int, *, epochs: int = 24, width: int = 96) -> LanguageModel:
    """A small Llama that answers what is known and refuses the rest."""
    spoken = [Example("", line.format(subject=people.target[0].subject)) for line in REFUSALS]
    model = new_model(World(tuple(people.rows()), tuple(spoken), (), ()), seed, width=width)
    rows = people.rows()
    batch = 32
    steps = epochs * -(-len(rows) // batch)
    settings = TrainSettings(
        learning_rate=3e-3,
        weight_decay=0.01,
        batch_size=batch,
        schedule="linear",
        warmup_steps=-(-len(rows) // batch),
        precision="float32",
        seed=seed,
    )
    finetune(model, rows, settings, steps, title="people")
    return model
