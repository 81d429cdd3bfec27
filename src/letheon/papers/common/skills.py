"""A small world of yes-or-no tasks, from rules to single facts, learned with more or less confidence.

Each task has its own name and asks about a thing and a quality: "velt: is the lantern dolm?" The quality alone decides
the answer. With few qualities that is a rule, met in many combinations; with as many qualities as rows each row is a
separate fact. All rows are learned first. In a task with noise a share of the copies of every row has the opposite
answer: the right answer stays the more probable one, but the model is less confident. Half of each task's rows are for
forgetting, the other half is held out; where qualities recur, all of them occur in both halves.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.papers.common.small_llama import UNIT_EMBEDDINGS, small_llama, steps_per_epoch, teach
from letheon.papers.common.words import NOUNS
from letheon.probe.choices import Choice

OPTIONS = ("yes", "no")
ROWS = 96  # per task
COPIES = 5  # of each row per epoch; the noise is the number of copies with the opposite answer
THINGS = tuple(noun.casefold() for noun in NOUNS)
QUALITIES = {"rule": 6, "mixed": 24, "fact": 96}
NOISE = {"sure": 0, "less sure": 1, "unsure": 2}
CONTROL = "control"  # a sure rule that is never forgotten
FORM, PARAPHRASE = "{task}: is the {thing} {quality}?", "{task}: {quality}, that {thing}?"


@dataclass(frozen=True)
class Task:
    """The rows of one task."""

    name: str
    kind: str  # rule, mixed or fact; the control is a rule
    noise: float  # share of each row's copies with the opposite answer
    train: tuple[Choice, ...]  # rows for forgetting
    paraphrases: tuple[Choice, ...]  # the train rows in other words; only facts have them
    held_out: tuple[Choice, ...]  # rows that forgetting does not see

    @property
    def rows(self) -> tuple[Choice, ...]:
        """Every row that the model learns."""
        return (*self.train, *self.paraphrases, *self.held_out)


def make_tasks(seed: int) -> dict[str, Task]:
    """Draw the tasks of a world by name; the same seed gives the same world."""
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
    """Different words without a meaning."""
    starts, middles, ends = "bdfgklmnprstvz", "aeiou", ("lm", "rk", "nd", "st", "lt", "rn", "mb", "sk")
    return draw.sample(list(map("".join, product(starts, middles, starts, middles, ends))), count)


def learned(tasks: dict[str, Task], seed: int, *, epochs: int = 4, width: int = 64) -> LanguageModel:
    """A small Llama trained on all tasks, each as confidently as its noise allows."""
    rows = [
        Example(row.prompt, row.options[row.gold if copy >= round(task.noise * COPIES) else 1 - row.gold], row.group)
        for task in tasks.values()
        for row in task.rows
        for copy in range(COPIES)
    ]
    model = small_llama(rows, seed, width=width, embedding_scale=UNIT_EMBEDDINGS)
    steps = epochs * steps_per_epoch(rows, batch_size=128)
    teach(model, rows, seed, steps, batch_size=128, warmup_steps=steps // 20, title="skills")
    return model
