"""Plain text without the chat template: the answer's sentence begun, `Q:` and `A:`, a biography begun.

A deletion that was trained under the chat template may hold only there: the same weights, run on bare text, still give
the fact.
"""

from __future__ import annotations

import re

from letheon.audit.attacks.base import Attempt, TextualAttack, sampled
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import value_span
from letheon.core.rows.examples import Example
from letheon.core.scoring.word_masks import FUNCTION_WORDS

# Small words within names and titles.
IN_NAMES = re.compile("an?|del?|der|di|du|el|la|le|of|the|van|von|y")
# A name begins after such a sign. A full stop behind five letters ends a sentence, since no abbreviation is so long.
STOP = re.compile(r"[,;:!?)\"”’»]$|\w{5}\.$")
QUOTES = "\"'“”‘’«»„("
QUESTION = "Q: {question}\nA:"
RUNNING = "Biographical notes\n\n{begun}"


def plain(model: LanguageModel, row: Example, text: str, variant: str = "") -> Attempt:
    """Return the attempt that gives the model a bare text to continue."""
    encoder = model.encoder()
    return Attempt(row, text, ids=(*encoder.prompt(""), *encoder.answer(text, end=False)[0]), variant=variant)


def begun(row: Example) -> str:
    """Return the answer up to its value, without the space before it; empty where nothing comes before the value.

    It ends before the name or title in which the value stands, but for a single first name and where it names the
    subject: whoever is given "The Shawshank" says "Redemption" and tells nothing of the one who was asked about.

    >>> begun(Example("What has Ann?", "Ann has a cat.", value="cat"))
    'Ann has a'
    >>> begun(Example("Which of his stories is a film?", "The Shawshank Redemption", value="Redemption"))
    ''
    >>> begun(Example("Which film is it?", 'It is "The Silence of the Lambs".', value="Lambs"))
    'It is'
    """
    value, beginning = row.value or "", row.answer[: value_span(row)[0]].rstrip() if row.value else ""
    words = beginning.split()
    whose = len(words) > 1 and any(re.search(rf"\b{re.escape(part)}\b", beginning) for part in _parts(row.subject))
    if whose or beginning.endswith(":") or not value[:1].isupper() or row.answer.isupper() or re.search(r"\d", value):
        return beginning
    name = place = len(words)
    while place and not STOP.search(words[place - 1]) and _is_of_a_name(words, place - 1):
        place -= 1
        name = place if _has_a_capital(words[place]) else name
    first_name = 0 < name == len(words) - 1 and words[name][0].isupper()
    return beginning if first_name else " ".join(words[:name])


def _parts(subject: str | None) -> list[str]:
    return [part for part in (subject or "").split() if len(part) > 2]


def _is_of_a_name(words: list[str], place: int) -> bool:
    """Whether a word may belong to a name: it has a capital that is not the sentence's, or is a small word of names."""
    word = words[place].strip(QUOTES)
    sentence = place == 0 and word.lower() in FUNCTION_WORDS - {"a", "an", "the"}
    return not sentence and (_has_a_capital(word) or IN_NAMES.fullmatch(word) is not None)


def _has_a_capital(word: str) -> bool:
    return word.lstrip(QUOTES)[:1].isupper()


def texts(row: Example) -> dict[str, str]:
    """Return the bare texts that one row is asked with, by variant."""
    start, asked = begun(row), {"Q and A": QUESTION.format(question=row.prompt)}
    return {**asked, "sentence": start, "biography": RUNNING.format(begun=start)} if start else asked


def _in_plain_text(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [plain(model, row, text, name) for row in plan.tried_facts for name, text in texts(row).items()]


def _in_plain_text_again(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    rows = [(row, begun(row) or QUESTION.format(question=row.prompt)) for row in sampled(plan.tried_facts)]
    return [plain(model, row, text) for row, text in rows for _ in range(-(-plan.settings.leak_answers // 2))]


PLAIN_TEXT = TextualAttack(
    "plain_text",
    "Leaves the chat template away: begins the sentence, writes Q and A, begins a biography.",
    "no row has a question",
    _in_plain_text,
)
PLAIN_TEXT_AT_K = TextualAttack(
    "plain_text_at_k",
    "Samples some continuations of plain text at temperature 1; a fact counts if any of them gives it.",
    "no row has a question",
    _in_plain_text_again,
    temperature=1.0,
    worst=True,
    thorough=True,
)
