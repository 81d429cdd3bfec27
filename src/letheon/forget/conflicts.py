"""Requests that no method can serve whole: retain rows that state a fact to be forgotten, or share all of them.

Ours, of no paper. The texts alone decide. The findings are warnings: the other facts can still be forgotten. Of a
running text each sentence counts as a fact.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.word_masks import WordRules, fact_words, is_specific
from letheon.forget.objectives.alternates.strangers import gives, guess_subjects, names_in, stem, words_of_facts
from letheon.forget.request import Request

SHOWN = 5
# A sentence ends at its sign and a quotation mark behind it, but for those of titles; a paragraph and an item end too.
SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\bDr\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\b[A-Z]\.)[\"'”’»)]*\s+"
    r"|\n\s*\n|\n(?=\s*[-*•])"
)
POSSESSIVE = re.compile(r"['’]s?$")
# A retain row states a sentence if it has STATED of the words that carry the sentence's fact, and at least LEAST_WORDS;
# a sentence without a name or number of its own needs LEAST_OF_PLAIN.
STATED, LEAST_WORDS, LEAST_OF_PLAIN = 3 / 4, 3, 4


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
    """Say which sentences of running texts are stated by which retain rows, as far as words tell.

    Such a row has the names and numbers of the sentence and most of its other words; of a sentence without any, it has
    two names of the text or the word that the text begins with.
    """
    texts = [row for row in request.forget if not row.prompt]
    if not texts:
        return []
    rules, found = WordRules.of(request.forget, request.retain), []
    kept = {row.id: _stems(WORD.findall(f"{row.prompt} {row.answer}")) for row in request.retain}
    having: dict[str, set[str]] = defaultdict(set)
    for name, text in kept.items():
        for word in text:
            having[word].add(name)
    in_small = {word for row in (*texts, *request.retain) for word in WORD.findall(row.answer) if word.islower()}
    for row in texts:
        own, words = fact_words(row, rules), fact_words(row)
        names = _stems(word.group() for word in own if is_specific(word, row.answer))
        first = {word.group() for word in words[:1] if word.group()[0].isupper()}
        lead = _stems(word for word in first if word.lower() not in in_small)
        named = Counter(name for word in names for name in having[word])
        about = {name for name, count in named.items() if count > 1}.union(*(having[word] for word in lead))
        ends = [match.start() for match in SENTENCE_END.finditer(row.answer)]
        for place, (begin, end) in enumerate(zip([0, *ends], [*ends, len(row.answer)], strict=True), start=1):
            within = [word for word in words if begin <= word.start() < end]
            told = _stems(word.group() for word in within)
            specific = _stems(word.group() for word in within if is_specific(word, row.answer)) & names
            least = max(LEAST_WORDS if specific else LEAST_OF_PLAIN, STATED * len(told))
            among = set.intersection(*(having[name] for name in specific)) if specific else about
            stating = [name for name in kept if name in among and len(told & kept[name]) >= least]
            if stating:
                found.append(
                    f"retain rows {_listed(stating)} seem to state sentence {place} of forget row {row.id}: what they "
                    "state cannot be forgotten while they are kept"
                )
    return found


def _stems(words: Iterable[str]) -> frozenset[str]:
    """The stems of words in small letters, without a possessive ending."""
    return frozenset(stem(POSSESSIVE.sub("", word.casefold())) for word in words)


def _is_about(kept: Example, row: Example, subject: str | None) -> bool:
    """Whether a retain row speaks of a forget row's subject; without one, whether it asks the same words."""
    if subject:
        return subject in kept.prompt or subject in kept.answer
    asked, told = ({word.lower() for word in WORD.findall(one.prompt)} for one in (row, kept))
    return bool(asked) and asked <= told


def _listed(ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + rest
