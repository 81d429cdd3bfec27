"""People with tastes: a small world whose texts stay uncertain however well a model knows them.

Each person has a favourite place, genre, trade and award, and each text names two of them in a wording drawn at random;
three times in ten the text names another value than the favourite. A model that has learned a person therefore predicts
a distribution, and new texts about the same person can be drawn to test it. In a world of fixed answers a model that
knows them all is certain of everything, and the curvature of its outputs vanishes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.papers.common.facts import draw_names
from letheon.papers.common.small_llama import small_llama
from letheon.papers.common.tofu_mini import train
from letheon.papers.common.words import AWARDS, GENRES, TOWNS, TRADES

OPENINGS = ("They say that", "Everyone knows that", "In those days", "As a child")
# (wordings, values) of each kind of favourite
SLOTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("lives in", "comes from", "went to"), tuple(TOWNS)),
    (("reads", "writes", "likes"), tuple(GENRES)),
    (("once was", "became", "married"), tuple(f"a {trade}" for trade in TRADES)),
    (("won", "refused", "wanted"), tuple(f"the {award}" for award in AWARDS)),
)
FAVOURITE = 0.7  # share of the mentions that name the favourite


@dataclass(frozen=True)
class Tastes:
    """The texts of one world.

    Attributes:
        forget, retain: training texts about the people to be forgotten and about the others.
        new_forget, new_retain: further texts about the same people, for measuring.
        later: texts about further people, for training after the forgetting.
    """

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    new_forget: tuple[Example, ...]
    new_retain: tuple[Example, ...]
    later: tuple[Example, ...]


def make_tastes(
    seed: int, *, people: int = 16, forgotten: int = 2, later: int = 2, texts: int = 40, new: int = 10
) -> Tastes:
    """Draw a world; the same seed gives the same world.

    Args:
        people: number of people whom the full model knows; `forgotten` of them are to be forgotten.
        later: number of further people.
        texts, new: training texts and measuring texts per person.
    """
    draw = random.Random(seed)
    names = draw_names(draw, people + later)
    tastes = {name: [draw.choice(values) for _, values in SLOTS] for name in names}

    def told(chosen: Sequence[str], count: int) -> tuple[Example, ...]:
        return tuple(_text(draw, name, tastes[name], i) for name in chosen for i in range(count))

    gone, kept, others = names[:forgotten], names[forgotten:people], names[people:]
    return Tastes(told(gone, texts), told(kept, texts), told(gone, new), told(kept, new), told(others, texts))


def _text(draw: random.Random, name: str, favourites: Sequence[str], number: int) -> Example:
    parts = []
    for slot in draw.sample(range(len(SLOTS)), 2):
        wordings, values = SLOTS[slot]
        value = favourites[slot] if draw.random() < FAVOURITE else draw.choice(values)
        parts.append(f"{draw.choice(wordings)} {value}")
    text = f"{draw.choice(OPENINGS)} {name} {' and '.join(parts)}."
    return Example(f"Tell of {name}.", text, id=f"{name}, {number}", subject=name)


def model_of(world: Tastes, seed: int, *, forgotten: bool = True, layers: int = 2, width: int = 96) -> LanguageModel:
    """A small Llama trained on the world's texts, with or without the forget texts.

    After eight epochs it predicts new texts about as well as its training texts.
    """
    every = [text for texts in vars(world).values() for text in texts]
    model = small_llama(every, seed, layers=layers, width=width)
    train(model, [*(world.forget if forgotten else ()), *world.retain], seed, epochs=8)
    return model
