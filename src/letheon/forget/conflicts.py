"""Requests that no method can serve whole: retain rows that state a fact to be forgotten, or share all of them.

Ours, of no paper. The texts alone decide. The findings are warnings: the other facts can still be forgotten. Of a
running text each sentence counts as a fact.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.word_masks import WordRules, fact_words, is_specific
from letheon.forget.objectives.alternates.strangers import gives, guess_subjects, names_in, stem, words_of_facts
from letheon.forget.request import Request

SHOWN = 5
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
# A retain row states a sentence of a running text if it has this share of the words that carry its fact, and so many.
STATED, LEAST_WORDS = 2 / 3, 3


def conflicts(request: Request) -> list[str]:
    """Sentences that say which forget rows cannot be forgotten while which retain rows are kept.

    A retain row stands in the way of a fact if it contains the subject and every word that carries the fact. A retained
    subject stands in the way of the whole request if the same questions about it have the same answers.
    """
    subjects = guess_subjects(request.forget, ())
    facts = words_of_facts(request.forget, request.retain)
    stated: dict[str, list[str]] = {}
    twins: dict[str, dict[str, str]] = defaultdict(dict)
    for row, subject, words in zip(request.forget, subjects, facts, strict=True):
        if not words or not row.prompt:  # nothing carries the fact: every row would contain all of its words
            continue
        answered = [kept for kept in request.retain if all(gives(kept.answer, [word]) for word in words)]
        if stating := [kept.id for kept in answered if _is_about(kept, row, subject)]:
            stated[row.id] = stating
        for kept in answered:
            for name in {*names_in(kept.prompt), *([kept.subject] if kept.subject else [])} - {subject}:
                if subject and kept.prompt.replace(name, subject) == row.prompt:
                    twins[name].setdefault(row.id, kept.id)
    found = [
        f"retain rows {_listed(by)} state the fact of forget row {row}: it cannot be forgotten while they are kept"
        for row, by in stated.items()
    ]
    found += _sentences_stated(request)
    for name, rows in twins.items():
        if len(rows) == len(request.forget):
            found.append(
                f"{name} shares all {len(rows)} facts with the one to be forgotten (retain rows "
                f"{_listed(list(rows.values()))}): a model that keeps these can still guess those"
            )
    return found


def _sentences_stated(request: Request) -> list[str]:
    """Say which sentences of running texts are stated by which retain rows.

    Such a row has a name of the text, the names and numbers of the sentence and most of its other words.
    """
    rules, found = WordRules.of(request.forget, request.retain), []
    kept = [(row.id, f"{row.prompt} {row.answer}") for row in request.retain]
    for row in request.forget:
        words = [] if row.prompt else fact_words(row, rules)
        specific = {word.group() for word in words if is_specific(word, row.answer)}
        names = {word.group() for word in words if word.group()[0].isupper()}
        ends = [match.start() for match in SENTENCE_END.finditer(row.answer)]
        for place, (begin, end) in enumerate(zip([0, *ends], [*ends, len(row.answer)], strict=True), start=1):
            told = list(dict.fromkeys(word.group() for word in words if begin <= word.start() < end))
            about = [one for one in kept if not names or names.intersection(WORD.findall(one[1]))]
            stating = [name for name, text in about if _states(text, told, specific)]
            if stating:
                found.append(
                    f"retain rows {_listed(stating)} state sentence {place} of forget row {row.id}: it cannot be "
                    "forgotten while they are kept"
                )
    return found


def _states(text: str, words: Sequence[str], specific: set[str]) -> bool:
    """Whether a text has all names and numbers among a sentence's words, and most of the words."""
    has = {word for word in words if gives(text, [stem(word)])}
    return len(has) >= max(LEAST_WORDS, STATED * len(words)) and specific.intersection(words) <= has


def _is_about(kept: Example, row: Example, subject: str | None) -> bool:
    """Whether a retain row speaks of a forget row's subject; without one, whether it asks the same words."""
    if subject:
        return subject in kept.prompt or subject in kept.answer
    asked, told = ({word.lower() for word in WORD.findall(one.prompt)} for one in (row, kept))
    return bool(asked) and asked <= told


def _listed(ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + rest
