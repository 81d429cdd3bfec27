"""A small world of tasks that are answered yes or no, from rules to single facts, known surely or less surely.

Each task has a word for itself and asks about a thing and a quality: "velt: is the lantern dolm?" The quality alone
decides the answer. With few qualities that is a rule, met in many combinations; with as many qualities as rows each row
is a fact of its own. All rows are learned first. A task with noise is learned from rows of which some say the opposite,
the same share for every row: the right answer stays the more probable one, but the model is less sure. Half of each
task's rows are for forgetting, the other half is held out; where qualities recur, both halves meet all of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

import torch

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainSettings
from letheon.papers.common.tofu_mini import World, new_model
from letheon.papers.common.words import NOUNS
from letheon.probe.choices import Choice

OPTIONS = ("yes", "no")
ROWS = 96  # of a task
COPIES = 5  # of a row in an epoch; noise is a number of them
THINGS = tuple(noun.casefold() for noun in NOUNS)
QUALITIES = {"rule": 6, "mixed": 24, "fact": 96}
NOISE = {"sure": 0, "less sure": 1, "unsure": 2}
CONTROL = "control"  # a sure rule that is never forgotten
FORM, PARAPHRASE = "{task}: is the {thing} {quality}?", "{task}: {quality}, that {thing}?"


@dataclass(frozen=True)
class Task:
    """Rows of one task: those to forget with, the same in other words, and those held out.

    Attributes:
        kind: rule, mixed or fact; the control is a rule. Only facts have paraphrases.
        noise: share of the copies of each row that say the opposite.
    """

    name: str
    kind: str
    noise: float
    train: tuple[Choice, ...]
    paraphrases: tuple[Choice, ...]
    held_out: tuple[Choice, ...]

    @property
    def rows(self) -> tuple[Choice, ...]:
        """Everything that is learned."""
        return (*self.train, *self.paraphrases, *self.held_out)


def make_tasks(seed: int) -> dict[str, Task]:
    """The tasks of a world under a seed, in words of its own; the same seed gives the same world."""
    draw = random.Random(seed)
    words = _invented(draw, sum(QUALITIES.values()) * len(NOISE) + QUALITIES["rule"] + 10)
    names = [(f"{kind}, {noise}", kind, of) for kind in QUALITIES for noise, of in NOISE.items()]
    return {name: _task(draw, words, name, kind, flipped) for name, kind, flipped in [*names, (CONTROL, "rule", 0)]}


def _task(draw: random.Random, words: list[str], name: str, kind: str, flipped: int) -> Task:
    tag, qualities = words.pop(), [words.pop() for _ in range(QUALITIES[kind])]
    pairs = [
        (draw.randrange(2) if kind == "fact" else number % 2, quality, thing)
        for number, quality in enumerate(qualities)
        for thing in draw.sample(THINGS, ROWS // len(qualities))
    ]
    draw.shuffle(pairs)

    def rows(chosen: list[tuple[int, str, str]], form: str = FORM) -> tuple[Choice, ...]:
        asked = [
            (form.format(task=tag, quality=quality, thing=thing), gold, quality) for gold, quality, thing in chosen
        ]
        return tuple(Choice(prompt, OPTIONS, gold, quality) for prompt, gold, quality in asked)

    train, held_out = pairs[: ROWS // 2], pairs[ROWS // 2 :]
    other_words = rows(train, PARAPHRASE) if kind == "fact" else ()
    return Task(name, kind, flipped / COPIES, rows(train), other_words, rows(held_out))


def _invented(draw: random.Random, count: int) -> list[str]:
    """Different words that mean nothing."""
    starts, middles, ends = "bdfgklmnprstvz", "aeiou", ("lm", "rk", "nd", "st", "lt", "rn", "mb", "sk")
    return draw.sample(list(map("".join, product(starts, middles, starts, middles, ends))), count)


def learned(tasks: dict[str, Task], seed: int, *, epochs: int = 4, width: int = 64) -> LanguageModel:
    """A small Llama that has learned all tasks, each as surely as its noise allows."""
    rows = [
        Example(row.prompt, row.options[row.gold if copy >= round(task.noise * COPIES) else 1 - row.gold], row.group)
        for task in tasks.values()
        for row in task.rows
        for copy in range(COPIES)
    ]
    model = new_model(World(tuple(rows), (), (), ()), seed, width=width)
    with torch.no_grad():
        model.model.get_input_embeddings().weight.mul_(8)  # of unit order: words are told apart several times sooner
    batch = 128
    steps = epochs * -(-len(rows) // batch)
    settings = TrainSettings(
        3e-3, 0.01, batch_size=batch, schedule="linear", warmup_steps=steps // 20, precision="float32", seed=seed
    )
    finetune(model, rows, settings, steps, title="skills")
    return model
