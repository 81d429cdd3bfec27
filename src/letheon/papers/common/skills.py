"""A small world of tasks with four options, from rules to single facts, learned with more or less confidence.

Each task has its own name and four answers of its own, and asks about a thing and a quality: "velt: what is the dolm
lantern?" The quality alone decides the answer. With few qualities that is a rule, met in many combinations; with as
many qualities as rows each row is a separate fact. All rows are learned first. In a task with noise a share of the
copies of every row has one of the wrong answers: the right answer stays the most probable one, but the model is less
confident. Half of each task's rows are for forgetting, the other half is held out. Each answer is right equally often
in both halves; where qualities recur, all of them occur in both.
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

OPTIONS = 4  # per task
ROWS = 96  # per task
COPIES = 8  # of each row per epoch; the noise is the number of copies with a wrong answer
THINGS = tuple(noun.casefold() for noun in NOUNS)
# qualities of a task -> its kind
QUALITIES = {8: "rule", 16: "rule", 24: "mixed", 48: "mixed", 96: "fact"}
NOISE = {"sure": 0, "less sure": 1, "unsure": 2, "least sure": 3}
CONTROL = "control"  # a sure rule that is never forgotten
FORM, PARAPHRASE = "{task}: what is the {quality} {thing}?", "{task}: {quality}, that {thing}?"


@dataclass(frozen=True)
class Task:
    """The rows of one task."""

    name: str
    kind: str  # rule, mixed or fact; the control is a rule
    qualities: int
    noise: float  # share of each row's copies with a wrong answer
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
    words = _invented(draw, (sum(QUALITIES) + (1 + OPTIONS) * len(QUALITIES)) * len(NOISE) + 1 + OPTIONS + 8)
    made = {
        f"{kind} of {qualities}, {noise}": _task(draw, words, f"{kind} of {qualities}, {noise}", qualities, flipped)
        for qualities, kind in QUALITIES.items()
        for noise, flipped in NOISE.items()
    }
    return made | {CONTROL: _task(draw, words, CONTROL, 8, 0)}


def _task(draw: random.Random, words: list[str], name: str, size: int, flipped: int) -> Task:
    tag, options = words.pop(), tuple(words.pop() for _ in range(OPTIONS))
    halves: tuple[list[Choice], list[Choice]] = ([], [])
    other_words = []
    for number in range(size):
        quality, gold = words.pop(), number % OPTIONS
        for place, thing in enumerate(draw.sample(THINGS, ROWS // size)):
            asked = {"task": tag, "quality": quality, "thing": thing}
            # a quality's rows go to the halves in turn; of single rows, each answer's do
            half = (place if size < ROWS else number // OPTIONS) % 2
            halves[half].append(Choice(FORM.format(**asked), options, gold, quality))
            if size == ROWS and half == 0:
                other_words.append(Choice(PARAPHRASE.format(**asked), options, gold, quality))
    for rows in halves:
        draw.shuffle(rows)
    train, held_out = map(tuple, halves)
    return Task(name, QUALITIES[size], size, flipped / COPIES, train, tuple(other_words), held_out)


def _invented(draw: random.Random, count: int) -> list[str]:
    """Different words without a meaning."""
    starts, middles, ends = "bdfgklmnprstvz", "aeiou", ("lm", "rk", "nd", "st", "lt", "rn", "mb", "sk")
    return draw.sample(list(map("".join, product(starts, middles, starts, middles, ends))), count)


def learned(tasks: dict[str, Task], seed: int, *, epochs: int = 3, width: int = 64) -> LanguageModel:
    """A small Llama trained on all tasks, each as confidently as its noise allows."""
    rows = [
        Example(row.prompt, answer, row.group)
        for task in tasks.values()
        for row in task.rows
        for answer in _answers(row, round(task.noise * COPIES))
    ]
    model = small_llama(rows, seed, width=width, embedding_scale=UNIT_EMBEDDINGS)
    steps = epochs * steps_per_epoch(rows, batch_size=128)
    teach(model, rows, seed, steps, batch_size=128, warmup_steps=steps // 20, title="skills")
    return model


def _answers(row: Choice, flipped: int) -> list[str]:
    """The answers of a row's copies: some of the wrong ones, each at most once, and the right one."""
    wrong = [option for option in row.options if option != row.answer]
    return [*wrong[:flipped], *[row.answer] * (COPIES - flipped)]
