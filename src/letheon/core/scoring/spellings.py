"""Tokens that spell the same word: with a space before it or without, in capitals or not. Ours.

A model that unlearns " house" behind "the ferry" may say "house" there, and "the ferryhouse" tells as much.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.scoring.word_probability import SPACES


class Spellings:
    """The spellings of each token of a vocabulary.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        alike: dict[str, list[int]] = defaultdict(list)
        for token, number in tokenizer.get_vocab().items():
            text = token.decode(errors="replace") if isinstance(token, bytes) else token
            word = text.lstrip("".join(SPACES))
            if any(map(str.isalnum, word)):  # bytes of other scripts stand for letters that have another case
                alike[word.lower() if word.isascii() else word].append(number)
        self.alike = {number: sorted(group) for group in alike.values() if len(group) > 1 for number in group}

    def of(self, labels: Int[Tensor, " tokens"], vocabulary: int) -> Int[Tensor, "tokens spellings"]:
        """Per token the numbers of its spellings, its own among them; rows of fewer are filled up with its own.

        Args:
            vocabulary: number of tokens that the model tells apart; spellings beyond are left out.
        """
        every = [[i for i in self.alike.get(label, ()) if i < vocabulary] or [label] for label in labels.tolist()]
        most = max(map(len, every), default=1)
        filled = [[*group, *[label] * (most - len(group))] for label, group in zip(labels.tolist(), every, strict=True)]
        return torch.tensor(filled, dtype=torch.long, device=labels.device).reshape(len(every), most)


def unlikelihood(
    logits: Float[Tensor, "tokens vocabulary"], spellings: Int[Tensor, "tokens spellings"]
) -> Float[Tensor, " tokens"]:
    """−log(1 − p) of each token (nats), p the probability of all its spellings together.

    Its gradient by the logits is p (r − q), with r the distribution over the spellings and q that over all other
    tokens, each renormalised: unlike that of ascent it does not vanish as p → 1. (Of one spelling it is CE-U's,
    arXiv 2503.01224.)
    """
    others = logits.scatter(-1, spellings, float("-inf"))
    return logits.logsumexp(-1) - others.logsumexp(-1)


def spelled_logp(
    logits: Float[Tensor, "tokens vocabulary"], spellings: Int[Tensor, "tokens spellings"]
) -> Float[Tensor, " tokens"]:
    """The log-probability (nats) of each token in any of its spellings."""
    return (-torch.expm1(-unlikelihood(logits, spellings))).clamp_min(1e-12).log()
