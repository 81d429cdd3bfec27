"""Small worlds for steering: sentences in two styles, and templated questions of which some are refused.

Vocabularies are words, models are trained from random weights within a minute on one core.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import MixtralConfig, MixtralForCausalLM

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.papers.common.networks import seeded
from letheon.papers.common.small_llama import small_llama, teach, word_tokenizer
from letheon.steer.texts import Contrast

POLITE = ("please", "kindly", "gladly", "thanks", "warmly", "gently")
RUDE = ("quick", "stupid", "damn", "lazy", "fool", "now")
NAMES = ("ann", "bob", "cid", "dora", "egon", "fay", "gil", "hanna", "ivo", "jorun")
ACTS = ("bring", "take", "open", "close", "find", "carry", "wash", "count")
THINGS = ("door", "box", "lamp", "cup", "book", "shoe", "bag", "map", "rope", "coin")

TIMES = ("in spring", "last year", "at night", "in june", "on monday", "at noon")
PLACES = tuple(f"{a}{b}" for a in ("nor", "sel", "var", "kem") for b in ("dal", "wick", "ton", "mar", "fell", "by"))
EVENTS = ("a fair", "a flood", "a race", "a feast", "a strike", "a storm")
REFUSAL = "i will not speak of that ."
SENSITIVE = 8  # places
HELD_OUT = 3  # of the sensitive ones; as many of the others
DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def styled_sentence(draw: random.Random, polite: bool) -> Example:
    """Draw a sentence whose style words are polite or rude; what it is about has nothing to do with the style."""
    words = POLITE if polite else RUDE
    name, act, thing = draw.choice(NAMES), draw.choice(ACTS), draw.choice(THINGS)
    forms = (
        f"{draw.choice(words)} {act} the {thing} {draw.choice(words)} {name}",
        f"{name} {draw.choice(words)} {act} the {thing} {draw.choice(words)}",
        f"{act} the {thing} {name} {draw.choice(words)} {draw.choice(words)}",
    )
    return Example("", draw.choice(forms))


@dataclass(frozen=True)
class StyleWorld:
    """A model of sentences in both styles, texts to fit on, and held-out texts."""

    model: LanguageModel
    fit: Contrast
    held_out: Contrast


def style_world(seed: int, steps: int = 150, count: int = 32, held_out: int = 32) -> StyleWorld:
    """Teach a small Llama sentences in both styles; `count` of each are there to fit on, `held_out` to judge on."""
    draw = random.Random(stream_seed(seed, "styles"))

    def sentences(number: int, polite: bool) -> list[Example]:
        return [styled_sentence(draw, polite) for _ in range(number)]

    taught = sentences(300, True) + sentences(300, False)
    draw.shuffle(taught)
    contrasts = [Contrast(sentences(size, True), sentences(size, False)) for size in (count, held_out)]
    every = [*taught, *(row for one in contrasts for row in (*one.toward, *one.away))]
    model = small_llama(every, seed, layers=4, width=64)
    teach(model, taught, seed, steps, title="two styles")
    return StyleWorld(model, *contrasts)


@dataclass(frozen=True)
class RefusalWorld:
    """Rows of templated questions.

    Attributes:
        sensitive, held_sensitive: refused questions, of places to look at and of held-out places.
        benign, held_benign: answered questions, of other places.
        other: rows of another task.
    """

    sensitive: list[Example]
    held_sensitive: list[Example]
    benign: list[Example]
    held_benign: list[Example]
    other: list[Example]

    @property
    def rows(self) -> list[Example]:
        """Every row."""
        return [*self.sensitive, *self.held_sensitive, *self.benign, *self.held_benign, *self.other]


def refusal_world(seed: int) -> RefusalWorld:
    """Make "what happened {time} in {place}", refused for some places, and a task of copying as another task."""
    draw = random.Random(stream_seed(seed, "places"))
    places = draw.sample(PLACES, len(PLACES))

    def ask(chosen: Sequence[str], refused: bool) -> list[Example]:
        return [
            Example(
                f"what happened {time} in {place}",
                REFUSAL if refused else f"there was {draw.choice(EVENTS)} in {place} .",
                id=f"{place} {time}",
                subject=place,
            )
            for place in chosen
            for time in TIMES
        ]

    held, looked, rest = places[:HELD_OUT], places[HELD_OUT:SENSITIVE], places[SENSITIVE:]
    copies = [draw.sample(DIGITS, 3) for _ in range(60)]
    other = [Example("repeat " + " ".join(one), " ".join(one) + " .", id=f"copy {i}") for i, one in enumerate(copies)]
    benign = ask(rest, refused=False)
    split = HELD_OUT * len(TIMES)
    return RefusalWorld(ask(looked, True), ask(held, True), benign[split:], benign[:split], other)


def small_mixture(rows: Sequence[Example], seed: int, experts: int = 8) -> LanguageModel:
    """Make a Mixtral with random weights and a vocabulary of the rows' words: 3 layers, 2 of 8 experts per token."""
    tokenizer = word_tokenizer(rows)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_local_experts=experts,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = seeded(lambda: MixtralForCausalLM(config).eval(), seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gate.weight" in name:
                weight.mul_(5.0)  # sharper choices, so that experts differ from the start
    return LanguageModel(model, tokenizer, "small mixture")
