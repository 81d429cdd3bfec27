"""The probability of a fact's words to a model.

A word's is the geometric mean of its tokens' probabilities, so that a first syllable that another name begins with as
well does not make it likely. Digits count above chance (.1 per digit): a year's last digit is one of ten. Signs and
spaces say nothing. Letters without case are words of their own; parts of letters, certain once the first is said,
belong to the word around them and count once. Ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from letheon.core.scoring.likelihood import Scores

# How tokenizers write the space before a word, and what stands in a decoded text for part of a letter.
SPACES, PART = (" ", "\u0120", "\u2581"), "\ufffd"


def fact_probabilities(tokenizer: Any, scores: Scores) -> list[float]:
    """Per row of a batch the mean probability of its fact's words; 0 if no token of them is predicted."""
    found = []
    for row in sorted(set(scores.row.tolist())):
        mine = scores.row == row
        found.append(fact_probability(tokenizer, scores.labels[mine], scores.logp[mine], scores.value[mine]))
    return found


def fact_probability(tokenizer: Any, labels: Tensor, logp: Tensor, fact: Tensor) -> float:
    """The mean probability of a fact's words, less chance.

    Args:
        labels: [tokens] ids of an answer.
        logp: [tokens] their log-probabilities (nats).
        fact: [tokens] which of them carry the fact.
    """
    texts, logps = texts_of(tokenizer, labels.tolist()), logp.detach().tolist()
    above = []
    for word in words_of(texts, fact.tolist()):
        letters = "".join(texts[place].strip() for place in word)
        chance = 10.0 ** -(len(letters) / len(word)) if letters.isdigit() else 0.0
        tokens = _tokens(texts, logps, word)
        above.append(max(math.exp(sum(tokens) / len(tokens)) - chance, 0.0))
    return sum(above) / len(above) if above else 0.0


def _tokens(texts: Sequence[str], logps: Sequence[float], word: Sequence[int]) -> list[float]:
    """The log-probabilities of a word's tokens; of parts of letters in a row the least, since others may be certain."""
    found: list[float] = []
    for i, place in enumerate(word):
        if i and PART in texts[place] and PART in texts[word[i - 1]]:
            found[-1] = min(found[-1], logps[place])
        else:
            found.append(logps[place])
    return found


def texts_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token as text, with a space before it where a word begins with it."""
    tokens = tokenizer.convert_ids_to_tokens(list(ids))  # bytes in some tokenizers
    tokens = [token.decode(errors="replace") if isinstance(token, bytes) else token for token in tokens]
    texts = [tokenizer.decode([number]).strip() for number in ids]
    return [(" " if token.startswith(SPACES) else "") + text for token, text in zip(tokens, texts, strict=True)]


def words_of(texts: Sequence[str], fact: Sequence[bool]) -> list[list[int]]:
    """The places of a fact's tokens, by words; signs are left out, unless there is nothing else.

    Args:
        texts: see `texts_of`.
        fact: which tokens carry the fact.

    >>> words_of([" D", "ur", "ham", ",", " New", " York"], [True] * 6)
    [[0, 1, 2], [4], [5]]
    """
    carrying = [place for place, inside in enumerate(fact) if inside]
    telling = [place for place in carrying if any(map(str.isalnum, texts[place])) or PART in texts[place]]
    found: list[list[int]] = []
    for place in telling or carrying:
        after = found and found[-1][-1] == place - 1 and not texts[place].startswith(" ")
        if after and _spelled(texts[place - 1]) and _spelled(texts[place]):
            found[-1].append(place)
        else:
            found.append([place])
    return found


def _spelled(text: str) -> bool:
    """Whether a text can be part of a word between spaces: digits, letters that have a case, or part of a letter."""
    letters = (letter for letter in text if letter.isalnum())
    return all(letter.isdigit() or letter.lower() != letter.upper() for letter in letters)
