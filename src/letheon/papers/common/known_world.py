"""A small world of known and unknown people, in which a model learns who belongs to which kind.

Known people have facts, stated in running text and asked about in two forms. The unknown people have names of the same
kind and number of tokens, and the texts say that nobody knows them. How a text goes on after a name then depends on
whether the name is known, so the model has to represent that at the name's last token, as large models do (Ferrando et
al., arXiv 2411.14257). Last names identify people, first names are shared by both kinds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import epochs_of
from letheon.core.scoring.likelihood import score
from letheon.core.training.finetuning import prepare_batches
from letheon.core.training.loop import Loop
from letheon.papers.common.facts import fact_row
from letheon.papers.common.small_llama import UNIT_EMBEDDINGS, small_llama, world_settings
from letheon.papers.common.words import FIRST_NAMES, LAST_NAMES, TOWNS, TRADES
from letheon.probe.entities import mention_ends

HEDGE = "I do not know."
# fact -> (statement, ((question, answer), (the same in other words)))
FORMS = {
    "home": (
        "{name} lives in {value}.",
        (("Where does {name} live?", "In {value}."), ("Which town is home to {name}?", "It is {value}.")),
    ),
    "trade": (
        "{name} works as a {value}.",
        (("What is the trade of {name}?", "A {value}."), ("How does {name} earn a living?", "As a {value}.")),
    ),
}
MORE_LAST_NAMES = """
Abbot Aldous Amory Arden Balfour Barlow Benbow Bexley Blythe Calder Carrow Chilton Corwin Cotter Dalby Danvers Drayton
Easton Elstow Emsworth Fenner Fulham Garrick Gresham Halden Hartley Ingram Irving Jardine Jessop Keating Kendrick Lomax
Lyndon Maddox Merrin Nesbit Norwood Orford Ormond Paxton Prescott Quimby Radley Redfern Selby Stanhope Tarrant Thirlby
Upton Vernon Wadham Waring Yardley Yeats Zeller
"""
LASTS = (*LAST_NAMES, *MORE_LAST_NAMES.split())
STRANGER = "{name} is unknown."


@dataclass(frozen=True)
class KnownWorld:
    """The people of one world."""

    facts: dict[str, dict[str, str]]  # name -> fact -> value, for the known people
    unknown: tuple[str, ...]  # names of which the texts say that nobody knows them

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the known people."""
        return tuple(self.facts)

    def rows(self, names: Sequence[str], form: int) -> list[Example]:
        """The facts of some known people, asked about in form 0 or 1."""
        return [
            fact_row(forms[form], name, self.facts[name][fact], f"{name}: {fact}, form {form}")
            for name in names
            for fact, (_, forms) in FORMS.items()
        ]

    def told(self, names: Sequence[str]) -> list[Example]:
        """The facts of some known people, stated in running text."""
        return [
            Example("", text.format(name=name, value=self.facts[name][fact]), f"{name}: {fact}, told", subject=name)
            for name in names
            for fact, (text, _) in FORMS.items()
        ]

    def training(self) -> list[Example]:
        """The training rows: every fact stated and asked about in both forms, and that other people are unknown."""
        hedges = [hedged(name, text) for name in self.unknown for text in (*questions(0), *questions(1))]
        strangers = [Example("", STRANGER.format(name=name), f"{name}: stranger", name) for name in self.unknown] * 2
        return [*self.rows(self.known, 0), *self.rows(self.known, 1), *self.told(self.known), *hedges, *strangers]


def hedged(name: str, question: str) -> Example:
    """A question about an unknown person, answered by "I do not know."."""
    return Example(question.format(name=name), HEDGE, f"{name}: {question}", subject=name)


def questions(form: int) -> list[str]:
    """The questions of form 0 or 1, with `{name}` in them."""
    return [forms[form][0] for _, forms in FORMS.values()]


def make_known_world(seed: int, known: int = 28, unknown: int = 28) -> KnownWorld:
    """Draw a world; the same seed gives the same world."""
    draw = random.Random(seed)
    names = [f"{draw.choice(FIRST_NAMES)} {last}" for last in draw.sample(LASTS, known + unknown)]
    facts = {name: {"home": draw.choice(TOWNS), "trade": draw.choice(TRADES)} for name in names[:known]}
    return KnownWorld(facts, tuple(names[known:]))


def taught(world: KnownWorld, seed: int, *, steps: int = 250, learning_rate: float = 4e-3) -> LanguageModel:
    """A small Llama trained on the world; the loss of a text about a person starts after the name."""
    model = small_llama(world.training(), seed, width=96, embedding_scale=UNIT_EMBEDDINGS)
    rows = []
    for example in world.training():
        row = model.encoder().encode(example)
        start = mention_ends(model.tokenizer, row.ids, example.subject or "")[0] + 1
        rows.append(row if example.prompt else Encoded(row.ids, start))
    settings = world_settings(seed, learning_rate=learning_rate, warmup_steps=steps // 20)
    loop = Loop(model, dict(model.model.named_parameters()), settings, steps, title="known world")
    plan = epochs_of(len(rows), settings.batch_size, steps, seed)

    def step(number: int) -> dict[str, float]:
        (batch,) = prepare_batches(model, rows, plan[number], settings, 1)
        loss = -batch.mean(score(model, batch).logp, "tokens")
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        loop.clip()
        loop.optimizer.step()
        return {"loss": loss.item()}

    loop.run(step)
    return model
