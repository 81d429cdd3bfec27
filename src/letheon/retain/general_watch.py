"""What a stream does to general ability: held-out texts are looked at after each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from letheon.core.rows.examples import Example
from letheon.retain.learner import Learner
from letheon.retain.strategies.gere import encoded, head_states, states_of, thresholds_of
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task
from letheon.retain.texts import TextLearner


class Kept(NamedTuple):
    """The change of general ability after a task."""

    rise: float  # rise of the texts' log perplexity since before the first task (nats)
    flipped: float  # share of hidden units, over tokens, whose state has changed since then


class GeneralWatch(Strategy):
    """A strategy that measures held-out texts after each task: `Composition([GeRe(...), GeneralWatch(texts)], "gere")`.

    Attributes:
        kept: one record per task.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"texts"})

    def __init__(self, texts: Sequence[str], tokens: int = 64) -> None:
        super().__init__()
        self.texts, self.tokens = texts, tokens
        self.kept: list[Kept] = []

    def before_task(self, learner: Learner, task: Task) -> None:
        if learner.task > 0:
            return
        assert isinstance(learner, TextLearner)
        self.held_out = encoded(learner, [Example("", text) for text in self.texts], self.tokens)
        hidden, self.surprise = self._look(learner)
        self.at = thresholds_of(hidden)
        self.states = states_of(hidden, self.at)

    def after_task(self, learner: Learner, task: Task) -> None:
        assert isinstance(learner, TextLearner)
        hidden, surprise = self._look(learner)
        flipped = (states_of(hidden, self.at) != self.states).double().mean()
        self.kept.append(Kept(surprise - self.surprise, float(flipped)))

    def _look(self, learner: TextLearner) -> tuple[Tensor, float]:
        """Return the hidden states of all tokens, and the loss per token (nats)."""
        hidden, logp = head_states(learner, self.held_out)
        return torch.cat(hidden), -logp
