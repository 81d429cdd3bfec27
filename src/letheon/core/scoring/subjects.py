"""Whom questions are about, where the rows do not say: the name that most of the questions to forget share. Ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from letheon.core.rows.examples import Example
from letheon.core.scoring.word_masks import CAPITAL, FUNCTION_WORDS

NAME = re.compile(rf"{CAPITAL}[\w'’-]*(?: (?:of |the |de |van |& )?{CAPITAL}[\w'’-]*)+")
QUESTION_WORDS = frozenset(
    ["describe", "explain", "give", "has", "how", "in", "list", "name", "please", "tell", "what"]
)


def guess_subjects(forget: Sequence[Example], retain: Sequence[Example]) -> list[str | None]:
    """The subject of each forget row: the given one, else the most frequent name of several words in its question.

    A guessed name stands in at least two forget questions and in no retain row.
    """
    kept = "\n".join(f"{row.prompt} {row.answer}" for row in retain)
    names = [{name for name in names_in(row.prompt) if name not in kept} for row in forget]
    counts = Counter(name for found in names for name in found)
    guessed: list[str | None] = []
    for row, found in zip(forget, names, strict=True):
        frequent = sorted((name for name in found if counts[name] >= 2), key=lambda name: (-counts[name], name))
        guessed.append(row.subject if row.subject and row.subject in row.prompt else next(iter(frequent), None))
    return guessed


def names_in(question: str) -> list[str]:
    """Names of two words or more in a question, without the question's own first words and a possessive ending."""
    found = []
    for text in NAME.findall(question):
        words = re.sub(r"['’]s?$", "", text).split()
        while words and words[0].lower() in FUNCTION_WORDS | QUESTION_WORDS:
            words = words[1:]
        found += [" ".join(words)] if len(words) > 1 else []
    return found
