"""TOFU-mini: invented authors with six facts each, and a small Llama trained from random weights to know them all.

After TOFU (Maini et al., arXiv 2401.06121): fictitious authors whose facts no model can know from elsewhere, some of
them to be forgotten; a reference model is trained by the same recipe without those. Each fact has a question, an
answer, the same in other words, and five false answers in the words of the paraphrase. Beside the authors stand real
capitals (the world set) and authors whom no model has seen (the holdout).

The paraphrases of every second retained author are trained on as well: a model trained from random weights must have
met their wording before a paraphrase of a forgotten fact says anything.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.training.loop import TrainingOutcome
from letheon.papers.common.facts import CAPITAL, VALUES, Form, draw_names, fact_row
from letheon.papers.common.small_llama import small_llama, steps_per_epoch, teach
from letheon.papers.common.words import CAPITALS, FORMS

FALSE_ANSWERS = 5
CAPITAL_PARAPHRASE: Form = ("Which city governs {name}?", "{name} is governed from {value}.")


@dataclass(frozen=True)
class World:
    """The rows of one world, author after author."""

    forget: tuple[Example, ...]  # facts of the authors to be forgotten
    retain: tuple[Example, ...]  # facts of the authors to be retained
    holdout: tuple[Example, ...]  # facts of authors whom no model is trained on
    capitals: tuple[Example, ...]  # real facts, known to every model

    def known(self, *, forgotten: bool) -> list[Example]:
        """The training rows of the full model (with the forget rows) or of the reference model (without them)."""
        shared = [*self.retain, *self.capitals, *map(paraphrased, _every_second_author(self.retain))]
        return [*self.forget, *shared] if forgotten else shared

    def rows(self) -> list[Example]:
        """Every row of the world."""
        return [*self.forget, *self.retain, *self.holdout, *self.capitals]


def make_world(seed: int, authors: int = 40, forgotten: int = 4, held_out: int = 4) -> World:
    """Draw a world; the same seed gives the same world."""
    draw = random.Random(seed)
    names = draw_names(draw, authors + held_out)
    facts = {name: {fact: VALUES[fact](draw) for fact in FORMS} for name in names}
    rows = [_row(draw, name, fact, facts) for name in names for fact in FORMS]
    cut, end = forgotten * len(FORMS), authors * len(FORMS)
    return World(tuple(rows[:cut]), tuple(rows[cut:end]), tuple(rows[end:]), tuple(_capitals(draw)))


def _row(draw: random.Random, name: str, fact: str, facts: dict[str, dict[str, str]]) -> Example:
    value = facts[name][fact]
    others = sorted({author[fact] for author in facts.values()} - {value})
    false = draw.sample(others, min(FALSE_ANSWERS, len(others)))  # a small world has fewer
    return _in_both_forms(FORMS[fact], name, value, false, f"{name}: {fact}")


def _capitals(draw: random.Random) -> list[Example]:
    rows = []
    for country, city in CAPITALS.items():
        others = draw.sample([other for other in CAPITALS.values() if other != city], FALSE_ANSWERS)
        rows.append(_in_both_forms((CAPITAL, CAPITAL_PARAPHRASE), country, city, others, country))
    return rows


def _in_both_forms(forms: tuple[Form, Form], name: str, value: str, others: Sequence[str], identity: str) -> Example:
    form, (question, answer) = forms
    return fact_row(
        form,
        name,
        value,
        identity,
        paraphrased_prompts=(question.format(name=name),),
        paraphrased_answer=answer.format(name=name, value=value),
        perturbed_answers=tuple(answer.format(name=name, value=other) for other in others),
    )


def paraphrased(row: Example) -> Example:
    """The row in other words: paraphrased question, paraphrased answer."""
    answer = row.paraphrased_answer or row.answer
    return Example(row.paraphrased_prompts[0], answer, f"{row.id}, paraphrased", row.subject, row.value)


def split_authors(world: World) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The rows of every second retain author, and the rows of the other retain authors."""
    first = _every_second_author(world.retain)
    shown = {row.subject for row in first}
    return tuple(first), tuple(row for row in world.retain if row.subject not in shown)


def _every_second_author(rows: Sequence[Example]) -> list[Example]:
    order = list(dict.fromkeys(row.subject for row in rows))
    return [row for row in rows if order.index(row.subject) % 2 == 0]


def new_model(world: World, seed: int, *, layers: int = 4, width: int = 128) -> LanguageModel:
    """A Llama with random weights and a vocabulary for this world."""
    return small_llama(world.rows(), seed, layers=layers, width=width)


def train(
    model: LanguageModel, rows: Sequence[Example], seed: int, *, epochs: int = 30, learning_rate: float = 3e-3
) -> TrainingOutcome:
    """Train in place until an epoch's mean loss is below 0.01 nats per token, or for `epochs` epochs.

    The full and the reference model are trained in the same way.
    """
    epoch = steps_per_epoch(rows)
    options: dict[str, Any] = {"learning_rate": learning_rate, "warmup_steps": epoch}
    return teach(model, rows, seed, epochs * epoch, known_below=0.01, title="TOFU-mini", **options)


def trained(world: World, seed: int, *, forgotten: bool = True, **options: Any) -> LanguageModel:
    """A model that knows the world, with the forget rows (full) or without them (reference)."""
    model = new_model(world, seed)
    train(model, world.known(forgotten=forgotten), seed, **options)
    return model


def taught(rows: Sequence[Example], seed: int, name: str, device: str) -> LanguageModel:
    """Load a pretrained model and fine-tune it on the rows: it has a language and further knowledge beside them."""
    model = load(name, device=device)
    train(model, rows, seed, epochs=16, learning_rate=2e-4)
    return model
