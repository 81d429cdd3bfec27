"""Running text: the places from which alternates continue it, and the later places from which it is begun.

Ours, of no paper. A model that unlearns a text from its first word on may still give a fact behind the sentence before
it. So the text is also unlearned, and kept texts are kept, from later sentences on: without what stands before them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded, Encoder
from letheon.core.rows.examples import Example
from letheon.core.scoring.word_probability import PART

# Running text is continued from before its first fact and from these shares of its tokens on: whoever is given more of
# it gets a fluent continuation too. The audit's attacks cut a text before single facts, which may be the first one.
CUTS = (0.2, 0.4, 0.6, 0.8)
# Where a later part of a text begins: behind the end of a sentence, a clause or a line, not behind an initial, a title
# or a key of JSON; where there is none, behind a comma, not within a number. Most such places of a text.
ENDS = re.compile(
    r"(?:(?<!\b[^\W\d_])(?<!\b[DMS]r)(?<!\b[MS]t)(?<!\bMrs)\.|[!?;…؟۔।]|(?<![\"'”]):)['\"”’»)\]]*\s+|[。！？；]\s*|\n\s*"
)
PAUSE, MOST_BEGINNINGS = re.compile(r",\s+|,(?!\d)|[，、،]\s*"), 8


@dataclass(frozen=True)
class Continued(Example):
    """Running text of which the end is learned.

    Attributes:
        given: its beginning, which is not learned.
    """

    given: str = ""

    def learned(self, encoder: Encoder, encoded: Encoded) -> Encoded:
        """The text as tokens, with an answer that begins after what is given."""
        spans = encoder.answer(self.answer, end=False)[1]
        return replace(encoded, start=encoded.start + sum(start < len(self.given) for start, _ in spans))


def beginnings(model: LanguageModel, row: Example, encoded: Encoded) -> list[tuple[int, ...]]:
    """The tokens that an answer is begun with: none, or those of running text up to its first fact and to each cut.

    A cut within a word of a fact stands before it: what is left of a word that has begun would be decoded. One within a
    letter is left out.
    """
    if row.prompt:
        return [()]
    text, inside = encoded.ids[encoded.start :], encoded.value
    fact = max(next((place for place, carries in enumerate(inside) if carries), 1), 1)
    ends = {fact}
    for share in CUTS:
        end = round(share * len(text))
        while fact < end < len(inside) and inside[end] and inside[end - 1] and _in_a_word(model, text, end):
            end -= 1
        if fact < end < len(text):
            ends.add(end)
    return [text[:end] for end in sorted(ends) if PART not in model.tokenizer.decode(text[:end])]


def _in_a_word(model: LanguageModel, text: Sequence[int], end: int) -> bool:
    before, after = (model.tokenizer.decode(text[:stop]) for stop in (end, end + 1))
    return re.search(r"\w$", before) is not None and re.match(r"\w", after[len(before) :]) is not None


def from_later_on(row: Example) -> list[Example]:
    """A running text without its beginning, from each of at most `MOST_BEGINNINGS` places on; none of a question.

    Of a text of which the end is learned something is given still.
    """
    if row.prompt:
        return []
    given = row.given if isinstance(row, Continued) else row.answer
    places = next((found for pattern in (ENDS, PAUSE) if (found := _behind(pattern, given, row.answer))), [])
    step = len(places) / min(len(places), MOST_BEGINNINGS) if places else 1.0
    chosen = [places[int(i * step)] for i in range(min(len(places), MOST_BEGINNINGS))]
    return [_without_beginning(row, place) for place in chosen]


def _without_beginning(row: Example, place: int) -> Example:
    later = replace(row, answer=row.answer[place:], value=None)
    return replace(later, given=later.given[place:]) if isinstance(later, Continued) else later


def _behind(pattern: re.Pattern[str], given: str, text: str) -> list[int]:
    return [
        found.end() for found in pattern.finditer(given) if given[found.end() :].strip() and found.end() < len(text)
    ]


def fact_in_later(
    encoder: Encoder, text: str, fact: Sequence[bool], later: str, kept: Sequence[str] = ()
) -> tuple[bool, ...]:
    """Which tokens of a text's later part carry the fact: not those up to which a kept text says the same.

    Args:
        text: the whole text, which ends with `later`.
        fact: which tokens of the whole text carry the fact.
        kept: texts that stay; a sentence of theirs is not to be unlearned where nothing stands before it.
    """
    first, same = len(text) - len(later), _said_by(later, kept)
    whole = zip(encoder.answer(text, end=False)[1], fact, strict=True)
    places = [(begin - first, end - first) for (begin, end), carries in whole if carries]
    spans = encoder.answer(later, end=False)[1]
    return tuple(end > same and any(begin < stop and end > start for start, stop in places) for begin, end in spans)


def _said_by(later: str, kept: Sequence[str]) -> int:
    """The length of the longest beginning of a text that one of the kept texts holds."""
    low, high = 0, len(later)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if any(later[:middle] in text for text in kept) else (low, middle - 1)
    return low
