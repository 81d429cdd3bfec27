"""Whether a model gives a fact: the probability of its words, and whether an answer says them.

A word's is the geometric mean of its tokens' probabilities, so that a first syllable that another name begins with as
well does not make it likely. Digits count above chance (.1 per digit): a year's last digit is one of ten. Signs and
spaces say nothing. Letters of scripts without spaces are words of their own. Ours.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from letheon.core.scoring.likelihood import Scores

# Punctuation that says as much as a symbol.
SYMBOLS = "%&#@"
# How tokenizers write the space before a word, and what stands in a decoded text for a part of a letter.
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
        above.append(max(math.exp(sum(logps[place] for place in word) / len(word)) - chance, 0.0))
    return sum(above) / len(above) if above else 0.0


def says(answer: str, value: str) -> bool:
    """Whether an answer gives a value: its words in their order, in whatever case and with any punctuation.

    In scripts without capitals, which write words together or put particles to them, its letters suffice.

    >>> says('She owns "The Blue Door".', "the Blue, Door"), says("In 1934.", "4"), says("彼は東京に住む。", "東京")
    (True, False, True)
    """
    told, wanted = (_words(text) for text in (answer, value))
    if not wanted:
        return value in answer
    if not _spelled(value):
        return "".join(wanted) in "".join(told)
    return any(told[place : place + len(wanted)] == wanted for place in range(len(told)))


def _words(text: str) -> list[str]:
    """The words of a text, folded; accents and vowel signs stay with their letters, punctuation is left out.

    Letters that have a case and letters that have none are different words: a year in a Chinese sentence is one. So is
    each symbol, for "5 %" is not 5.
    """
    words, before = [""], ""
    for letter in unicodedata.normalize("NFKC", text.replace("\u02bc", "'").casefold()):
        group = unicodedata.category(letter)
        kind = before if group.startswith("M") else _kind(letter, group)
        if kind != before or kind == "symbol":
            words.append("")
        words[-1] += letter if kind else ""
        before = kind
    return [word for word in words if word]


def _kind(letter: str, group: str) -> str:
    if letter.isalnum():
        return "spelled" if _spelled(letter) else "caseless"
    return "symbol" if letter in SYMBOLS or group in ("Sc", "Sm", "So") else ""


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
    """Whether a text is of digits and of letters that have a case, which spell words between spaces."""
    return all(letter.isdigit() or letter.lower() != letter.upper() for letter in text if letter.isalnum()) and (
        PART not in text
    )
