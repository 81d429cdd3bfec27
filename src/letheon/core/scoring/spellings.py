"""Tokens that spell the same word: with a space before it or without, in capitals or not. Ours.

A model that unlearns " house" behind "the ferry" may say "house" there, and "the ferryhouse" tells as much.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.scoring.word_masks import FUNCTION_WORDS
from letheon.core.scoring.word_probability import PART, SPACES

# Words that may begin any answer, as " a" does, while " A" begins Aoife; "s" and "t" stand behind an apostrophe only.
SMALL_WORDS = FUNCTION_WORDS - {"s", "t"}
BYTES_SPACE = SPACES[1]  # the space among tokens that are written as bytes


class Spellings:
    """The spellings of each token of a vocabulary. A token with a capital ("In") is not spelled as a small word ("in").

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        alike: dict[str, list[int]] = defaultdict(list)
        vocabulary = tokenizer.get_vocab()
        in_bytes = BYTES_SPACE in vocabulary  # where letters that are no ASCII stand for bytes, and have no case
        for token, number in vocabulary.items():
            text = token.decode(errors="replace") if isinstance(token, bytes) else token
            word = text.lstrip("".join(SPACES))
            if not any(map(str.isalnum, word)) or PART in word:
                continue
            as_it_is = word.lower() in SMALL_WORDS or (in_bytes and not word.isascii())
            alike[word if as_it_is else word.lower()].append(number)
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
    own = torch.full_like(logits, float("-inf")).scatter(-1, spellings, logits.gather(-1, spellings))
    return own.logsumexp(-1) - logits.logsumexp(-1)
