"""People with tastes: a small world of texts that stay uncertain however well a model knows them.

Each person has a favourite place, genre, trade and award, and each text tells of two of them in a wording drawn at
random; three times in ten the text names something else than the favourite. So a model that has learned a person
predicts a distribution, and new texts of the same person can be drawn to see whether it still does. In a world of fixed
answers a model that knows them all is certain of everything, and the curvature of its outputs vanishes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.papers.common.tofu_mini import World, new_model, train
from letheon.papers.common.words import AWARDS, FIRST_NAMES, GENRES, LAST_NAMES, TOWNS, TRADES

OPENINGS = ("They say that", "Everyone knows that", "In those days", "As a child")
# (wordings, what can be named)
SLOTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("lives in", "comes from", "went to"), tuple(TOWNS)),
    (("reads", "writes", "likes"), tuple(GENRES)),
    (("once was", "became", "married"), tuple(f"a {trade}" for trade in TRADES)),
    (("won", "refused", "wanted"), tuple(f"the {award}" for award in AWARDS)),
)
FAVOURITE = 0.7  # how often a text names the favourite


@dataclass(frozen=True)
class Tastes:
    """Texts by person.

    Attributes:
        forget, retain: texts that a model is trained on, of people to be forgotten and to be kept.
        new_forget, new_retain: further texts of the same people, which no model is trained on.
        later: texts of people whom a model may be trained on later.
    """

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    new_forget: tuple[Example, ...]
    new_retain: tuple[Example, ...]
    later: tuple[Example, ...]


def make_tastes(
    seed: int, *, people: int = 16, forgotten: int = 2, later: int = 2, texts: int = 40, new: int = 10
) -> Tastes:
    """A world under a seed: `texts` of each person to train on, `new` ones to measure with."""
    draw = random.Random(seed)
    names = [f"{first} {last}" for first, last in draw.sample(_pairs(), people + later)]
    tastes = {name: [draw.choice(values) for _, values in SLOTS] for name in names}

    def told(chosen: Sequence[str], count: int) -> tuple[Example, ...]:
        return tuple(_text(draw, name, tastes[name], i) for name in chosen for i in range(count))

    gone, kept, others = names[:forgotten], names[forgotten:people], names[people:]
    return Tastes(told(gone, texts), told(kept, texts), told(gone, new), told(kept, new), told(others, texts))


def _pairs() -> list[tuple[str, str]]:
    return [(first, last) for first in FIRST_NAMES for last in LAST_NAMES]


def _text(draw: random.Random, name: str, favourites: Sequence[str], number: int) -> Example:
    parts = []
    for slot in draw.sample(range(len(SLOTS)), 2):
        wordings, values = SLOTS[slot]
        value = favourites[slot] if draw.random() < FAVOURITE else draw.choice(values)
        parts.append(f"{draw.choice(wordings)} {value}")
    text = f"{draw.choice(OPENINGS)} {name} {' and '.join(parts)}."
    return Example(f"Tell of {name}.", text, id=f"{name}, {number}", subject=name)


def model_of(world: Tastes, seed: int, *, forgotten: bool = True, layers: int = 2, width: int = 96) -> LanguageModel:
    """A small Llama trained from nothing on the world's texts, with or without those to be forgotten.

    Eight passes: it then knows new texts about as well as those that it has seen.
    """

    words = World(world.forget, world.retain, (*world.new_forget, *world.new_retain, *world.later), ())
    model = new_model(words, seed, layers=layers, width=width)
    train(model, [*(world.forget if forgotten else ()), *world.retain], seed, epochs=8)
    return model
