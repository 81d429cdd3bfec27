"""Who answers a measure's questions: the protocol, and a local language model.

A conversation is a list of turns, the user's first and last, the model's between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import short
from letheon.core.scoring.answer_trees import score_tokens
from letheon.core.scoring.generation import generate_ids

Turns = Sequence[str]
OptionLogp = Float[np.ndarray, " options"]


class Responder(Protocol):
    """A model that continues conversations.

    Attributes:
        name: the model's name, as results show it.
    """

    @property
    def name(self) -> str: ...

    def facts(self) -> dict[str, Any]:
        """Return what decides the answers: the kind of model and how it decodes."""
        ...

    def answers(self, conversations: Sequence[Turns], max_new_tokens: int) -> list[str]:
        """Return the greedy answer to each conversation."""
        ...

    def option_logp(self, questions: Sequence[tuple[Turns, Sequence[str]]]) -> list[OptionLogp]:
        """Return the log-probability (nats) with which each answer begins with each option; -inf where unknown."""
        ...


@dataclass(frozen=True)
class LocalResponder:
    """A language model in memory."""

    model: LanguageModel

    @property
    def name(self) -> str:
        """The name that the model was loaded by."""
        return self.model.name

    def facts(self) -> dict[str, Any]:
        """Return kind and decoding; options are scored from the whole vocabulary's probabilities."""
        return {"kind": "local", "model": self.name, "decoding": "greedy", "options": "full vocabulary"}

    def answers(self, conversations: Sequence[Turns], max_new_tokens: int) -> list[str]:
        """Decode greedily, in batches of similar length."""
        rows = [conversation_ids(self.model, turns) for turns in conversations]
        start = len(self.model.encoder().prompt(""))
        prefixes = [row[start:] for row in rows]  # an empty prompt begins with the same tokens
        ids = generate_ids(self.model, [""] * len(rows), max_new_tokens=max_new_tokens, prefixes=prefixes)
        pairs = zip(ids, prefixes, strict=True)
        return [self.model.tokenizer.decode(row[len(head) :], skip_special_tokens=True).strip() for row, head in pairs]

    def option_logp(self, questions: Sequence[tuple[Turns, Sequence[str]]]) -> list[OptionLogp]:
        """Sum log-probabilities over each option's tokens, without an end of turn."""
        encoder = self.model.encoder()
        coded = [
            (conversation_ids(self.model, turns), [encoder.answer(option, end=False)[0] for option in options])
            for turns, options in questions
        ]
        return [np.array([float(s.logp.sum()) for s in scores]) for scores in score_tokens(self.model, coded)]


def conversation_ids(model: LanguageModel, turns: Turns) -> tuple[int, ...]:
    """Encode a conversation up to the model's next answer, by its chat template if it has one.

    Raises:
        InputError: an even number of turns, or more tokens than the model's context.
    """
    if len(turns) % 2 == 0:
        raise InputError(f"a conversation of {len(turns)} turns", "the user's turn is the first and the last one")
    if len(turns) == 1 or not model.tokenizer.chat_template:
        ids = model.encoder().prompt("\n".join(turns))
    else:
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
        text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) >= model.context_length:
        raise InputError(
            f"the prompt {short(turns[-1])} has {len(ids)} tokens, the model's context has {model.context_length}",
            "shorten the item, leave it out, or measure a model with a longer context",
        )
    return ids


def local_model(responder: Responder, what: str) -> LanguageModel:
    """Return the model in memory.

    Args:
        what: what needs it, for the error.

    Raises:
        InputError: the responder is an endpoint, whose weights are out of reach.
    """
    if not isinstance(responder, LocalResponder):
        raise InputError(f"{what} needs the model's weights, and {responder.name} is an endpoint", "give a local model")
    return responder.model


def normalised(logp: OptionLogp) -> OptionLogp:
    """Compute the probabilities of the options among themselves; NaN where none has any."""
    if not np.isfinite(logp).any():
        return np.full(len(logp), np.nan)
    weight = np.exp(logp - logp.max())
    return np.asarray(weight / weight.sum())
