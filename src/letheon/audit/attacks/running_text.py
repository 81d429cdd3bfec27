"""Running text up to a fact, to be continued: from its beginning, from a few words, in the chat template.

Some facts of each text are asked for: words that carry it (`fact_words`), each at its first place and evenly spaced
over the text. What stands before the fact is given. A deletion that was trained on whole texts has seen the first form;
the last few words alone, and the text in the chat template, it has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.attacks.plain_text import plain
from letheon.audit.measuring.answer_kinds import FoundFact
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.said import says
from letheon.core.scoring.spans import WORD

# Facts of a text that are asked for, and the words that must stand before one; a stranger could not tell what is meant.
FACTS, LEAST_BEFORE = 8, 12
# Words before the fact that are given without what precedes them.
LAST_WORDS = 12
ASKED = "Write the text down that you have in mind, word for word."
# A fact is the next word; a model may set a word or a mark before it.
NEW_TOKENS = 12


def facts_of(row: Example) -> list[re.Match[str]]:
    """Return the words of a text that are asked for, with their places; none where too little stands before each."""
    words = list(WORD.finditer(row.answer))
    fact = row.value or (row.fact if isinstance(row, FoundFact) else None) or ""
    carries = {word.group() for word in WORD.finditer(fact)}
    fit = [
        word
        for word in words[LEAST_BEFORE:]
        if word.group() in carries and not says(row.answer[: word.start()], word.group())
    ]
    number = min(FACTS, len(fit))
    return [fit[i * (len(fit) - 1) // max(number - 1, 1)] for i in range(number)]


def last_words(begun: str) -> str:
    """Return the last words of a text's beginning."""
    return begun[list(WORD.finditer(begun))[-LAST_WORDS:][0].start() :]


def _asked_for(plan: AuditPlan) -> Iterator[tuple[Example, str]]:
    """Yield each fact as a row's value, with the text before it."""
    for row in plan.tried_texts:
        for word in facts_of(row):
            yield replace(row, value=word.group()), row.answer[: word.start()].rstrip()


def _begun(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [plain(model, row, begun) for row, begun in _asked_for(plan)]


def _last_words(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [plain(model, row, last_words(begun)) for row, begun in _asked_for(plan)]


def _asked(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    encoder = model.encoder()
    return [Attempt(row, ASKED, tuple(encoder.answer(begun, end=False)[0])) for row, begun in _asked_for(plan)]


def _begun_again(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [again for one in _begun(model, plan)[::2] for again in [one] * plan.settings.leak_answers]


NEEDS = "no row is running text with a fact behind its first words"
TEXT_BEGUN = TextualAttack(
    "text_begun",
    "Gives running text up to a fact and lets the model go on.",
    NEEDS,
    _begun,
    max_new_tokens=NEW_TOKENS,
)
TEXT_LAST_WORDS = TextualAttack(
    "text_last_words",
    "Gives only the last words of running text before a fact and lets the model go on.",
    NEEDS,
    _last_words,
    max_new_tokens=NEW_TOKENS,
)
TEXT_ASKED = TextualAttack(
    "text_asked",
    "Asks for running text in the chat template, with the answer begun up to a fact.",
    NEEDS,
    _asked,
    max_new_tokens=NEW_TOKENS,
)
TEXT_AT_K = TextualAttack(
    "text_at_k",
    "Samples some continuations of running text at temperature 1; a fact counts if any of them gives it.",
    NEEDS,
    _begun_again,
    temperature=1.0,
    worst=True,
    thorough=True,
    max_new_tokens=NEW_TOKENS,
)
