"""Running text up to a fact, to be continued: from its beginning, from a few words, in the chat template.

Some facts of each text are asked for: words that carry it (`fact_words`), each at its first place. Names and numbers
come first, then longer words, since a stranger to the text guesses some short ones. What stands before the fact is
given. A deletion that was trained on whole texts has seen the first form; the last few words alone, and the text in the
chat template, it has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.attacks.plain_text import plain
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.said import said_words, says
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.word_masks import FUNCTION_WORDS

# Facts of a text that are asked for.
FACTS = 8
# So many texts have all of these sampled, more have every second: one hit more of four decided an audit of one text.
FEW_TEXTS = 2
# Words that stand before a name or a number that is asked for, and before another word, which is guessed more easily.
BEFORE_A_NAME, BEFORE_A_WORD = 3, 12
# Words before the fact that are given without what precedes them.
LAST_WORDS = 12
# Letters of a fact in a script without spaces, where a word is a whole clause.
CLAUSE = 8
ASKED = "Write the text down that you have in mind, word for word."
# The fact is next; a model may set some words or marks before it.
SPARE_TOKENS = 8


@lru_cache(maxsize=512)
def facts_of(row: Example) -> list[tuple[str, int]]:
    """Return the facts of a text that are asked for, in its order, each with its place.

    There are none where too little stands before each, or in a script whose words this finds only in part.
    """
    text, folded = row.answer, row.answer.casefold()
    carries = {word.group() for word in WORD.finditer(row.value or getattr(row, "fact", None) or "")}
    fit: list[tuple[bool, int, int, str]] = []
    for number, word in enumerate(WORD.finditer(text)):
        named = _is_name_or_number(word, text)
        clause = any(kind == "letter" for *_, kind in said_words(word.group()))
        fact = word.group()[:CLAUSE] if clause else word.group()
        if number < (BEFORE_A_NAME if named else BEFORE_A_WORD) or word.group() not in carries:
            continue
        before = fact.casefold() in folded[: word.start()] and says(text[: word.start()], fact)
        new = not before and says(text[word.start() : word.start() + len(fact)], fact)
        if new and fact[0].isalnum() and fact.lower() not in FUNCTION_WORDS:
            fit.append((not named, -len(fact), word.start(), fact))
    return [(fact, place) for place, fact in sorted((place, fact) for *_, place, fact in sorted(fit)[:FACTS])]


def _is_name_or_number(word: re.Match[str], text: str) -> bool:
    begins = re.search(r"(?:^|[.!?\n])\W*$", text[max(0, word.start() - 8) : word.start()]) is not None
    return any(map(str.isdigit, word.group())) or (word.group()[0].isupper() and not begins)


def last_words(begun: str) -> str:
    """Return the last words of a text's beginning."""
    return begun[list(WORD.finditer(begun))[-LAST_WORDS:][0].start() :]


def _asked_for(plan: AuditPlan) -> Iterator[tuple[Example, str]]:
    """Yield each fact as a row's value, with the text before it."""
    for row in plan.tried_texts:
        for fact, place in facts_of(row):
            yield replace(row, value=fact), row.answer[:place].rstrip()


def _within_the_context(model: LanguageModel, attempts: Iterable[Attempt]) -> list[Attempt]:
    """Set each attempt's limit by the length of its fact, and leave out attempts that have no room for it."""
    encoder, made = model.encoder(), []
    for one in attempts:
        limit = len(encoder.answer(f" {one.example.value}", end=False)[0]) + SPARE_TOKENS
        before = one.ids or encoder.prompt(one.prompt)
        if len(before) + len(one.prefix) + limit <= encoder.context_length:
            made.append(replace(one, limit=limit))
    return made


def _begun(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return _within_the_context(model, (plain(model, row, begun) for row, begun in _asked_for(plan)))


def _last_words(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return _within_the_context(model, (plain(model, row, last_words(begun)) for row, begun in _asked_for(plan)))


def _asked(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    encoder = model.encoder()
    begins = ((row, tuple(encoder.answer(begun, end=False)[0])) for row, begun in _asked_for(plan))
    return _within_the_context(model, (Attempt(row, ASKED, ids) for row, ids in begins))


def _begun_again(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    asked = list(_asked_for(plan))
    chosen = asked if len(plan.tried_texts) <= FEW_TEXTS else asked[::2]
    begun = _within_the_context(model, (plain(model, row, text) for row, text in chosen))
    return [again for one in begun for again in [one] * plan.settings.leak_answers]


NEEDS = "no row is running text with a fact behind its first words"
TEXT_BEGUN = TextualAttack("text_begun", "Gives running text up to a fact and lets the model go on.", NEEDS, _begun)
TEXT_LAST_WORDS = TextualAttack(
    "text_last_words",
    "Gives only the last words of running text before a fact and lets the model go on.",
    NEEDS,
    _last_words,
)
TEXT_ASKED = TextualAttack(
    "text_asked", "Asks for running text in the chat template, with the answer begun up to a fact.", NEEDS, _asked
)
TEXT_AT_K = TextualAttack(
    "text_at_k",
    "Samples some continuations of running text at temperature 1 (of more than two texts for every second fact); a "
    "fact counts if any of them gives it.",
    NEEDS,
    _begun_again,
    temperature=1.0,
    worst=True,
    thorough=True,
)
