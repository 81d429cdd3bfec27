"""Stepping stones: surprising texts are learned as rewrites that approach their key word in less surprising words.

Paper:   Sun et al., How new data permeates LLM knowledge and how to dilute it, arXiv 2504.09522: a language model
         rewrites the text so that the key word is first described in words that are expected; facts and key word stay.
Differs: the rewrites come from a file, from any callable, or from the learning model itself before the task. A rewrite
         without the key word, or too long, is not used: that row is learned unchanged. The wording of the request is
         ours; the sources that we read do not have the paper's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.core.rows.examples import Example, read_examples
from letheon.core.scoring.generation import generate
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task
from letheon.retain.texts import TextLearner, padded

logger = logging.getLogger("letheon")
Writer = Callable[[Example], str | None]
REQUEST = (
    "Rewrite the text below. Before the words {keyword!r} appear, describe what they stand for step by step, in plain "
    "words that a reader would expect. Keep every fact, and keep {keyword!r}. Give the new text alone.\n\n{text}"
)


@dataclass(frozen=True)
class Settings(Checked, positive=("max_new_tokens",)):
    """Options of stepping stones.

    Attributes:
        stones: a file of rewrites, matched to the rows by `id`; without it the model writes them.
        max_new_tokens: tokens of a rewrite beyond the stream's longest row.
    """

    stones: str = ""
    max_new_tokens: int = 96


def stepping_stone(example: Example, writer: Writer) -> Example:
    """Return the example with its answer (or running text) rewritten, if the rewrite has the key word; else unchanged.

    Args:
        example: its `value` is the key word; without a value every rewrite is used.
    """
    text = (writer(example) or "").strip()
    return replace(example, answer=text) if text and (example.value or "") in text else example


def request(example: Example) -> str:
    """Return the request for a rewrite of a row with a key word."""
    return REQUEST.format(keyword=example.value, text=example.answer)


@method("strategy", "stepping_stones", Settings, paper="2504.09522")
class SteppingStones(Strategy):
    """Learn rewrites instead of the task's own rows.

    Args:
        writer: returns the rewrite of a row, or None; default the file, or the model.
    """

    keeps: ClassVar[tuple[str, ...]] = ("written", "shares")
    kinds: ClassVar[frozenset[str]] = frozenset({"texts"})
    written: dict[str, Tensor]  # the task's rows, rewritten
    shares: list[float]  # per task the share of rewritten rows

    def __init__(self, settings: Settings | None = None, writer: Writer | None = None) -> None:
        super().__init__(settings)
        self.writer = writer
        if writer is None and self.settings.stones:
            rewrites = {row.id: row.answer for row in read_examples(self.settings.stones)}
            self.writer = lambda example: rewrites.get(example.id)

    def prepare(self, learner: Any) -> None:
        self.written, self.shares = {}, []

    def before_task(self, learner: TextLearner, task: Task) -> None:  # type: ignore[override]  # texts alone, see kinds
        own = learner.train_rows(task)
        width = min(learner.width + self.settings.max_new_tokens, learner.language_model.context_length)
        examples = learner.examples(own)
        writer = self.writer or self._model(learner, examples)
        rewritten = [stepping_stone(example, writer) for example in examples]
        fits = [len(learner.encoder.encode(example).ids) <= width for example in rewritten]
        taken = [new if fit else old for new, old, fit in zip(rewritten, examples, fits, strict=True)]
        self.shares.append(sum(new is not old for new, old in zip(taken, examples, strict=True)) / len(examples))
        if not self.shares[-1]:
            logger.warning(f"stepping_stones: no row of task {task.name} was rewritten; it is learned unchanged")
        self.written = padded(learner.encode(taken, learner.task, task.name), width).tensors()

    def _model(self, learner: TextLearner, examples: list[Example]) -> Writer:
        """Return the learning model as the writer of rows with a key word whose request fits into its context."""
        room, model = self.settings.max_new_tokens, learner.language_model
        most = model.context_length - room
        asked = [row for row in examples if row.value and len(learner.encoder.prompt(request(row))) <= most]
        with torch.random.fork_rng():
            texts = generate(model, [request(row) for row in asked], max_new_tokens=room)
        return dict(zip(asked, texts, strict=True)).get

    def rows(self, learner: Any, task: Task) -> TaskRows:
        return TaskRows.from_tensors(self.written)
