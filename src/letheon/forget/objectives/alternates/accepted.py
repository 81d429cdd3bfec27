"""Which answers may take a fact's place: sound ones that do not give it. Ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from letheon.core.rows.examples import Example
from letheon.core.scoring.overlap import repeats_itself
from letheon.core.scoring.said import says
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.word_masks import FUNCTION_WORDS
from letheon.core.scoring.word_probability import PART
from letheon.forget.objectives.alternates.strangers import gives, names_in, stem, with_name

# Largest share of other letters in the answer to a question in ASCII.
FOREIGN = 0.1
# A word that is spelled out, letter by letter.
SPELLED_OUT = re.compile(r"(?:\b[^\W\d_][- ]){4}")


@dataclass(frozen=True)
class Question:
    """A question to be answered as if the fact were unknown.

    Attributes:
        prompt: the question; empty for running text.
        subject: the name in it that is replaced; None leaves the question as it is.
        words: the words that the answer may not hold: those that carry the fact, and others of the request.
        beginning: token ids that the answer begins with (running text).
        limit: largest number of tokens of an answer; one that reaches it ends at its last full sentence.
        shots: kept rows that stand before it where it is asked in plain text, the likest question last.
        endings: `endings_of_names` in the kept rows' answers.
        fact: the same for all questions that ask for one fact; empty if there are no others.
        values: the row's value, or the numbers of its fact as its answer writes them (0171 555 2381), and `short_forms`
            of the fact's words.
        stems: those of the words, of which no other word may be in the answer ("pump" where the fact is "pumping").
    """

    prompt: str
    subject: str | None
    words: tuple[str, ...]
    beginning: tuple[int, ...] = ()
    limit: int = 64
    shots: tuple[Example, ...] = ()
    endings: Mapping[str, str] = field(default_factory=dict)
    fact: str = ""
    values: tuple[str, ...] = ()
    stems: frozenset[str] = frozenset()


def accepted(question: Question, name: str, text: str) -> str | None:
    """An answer told of the subject, unless it gives the fact in any spelling, repeats the question or itself, leaves
    the question's script, holds the invented name or a broken letter, or spells out a word."""
    answer = with_name(text, name, question.subject or "") if name else text
    if not answer or _gives(answer, question) or _echoes(answer, question.prompt):
        return None
    if repeats_itself(answer) or _is_one_word(answer) or PART in answer or SPELLED_OUT.search(answer):
        return None
    if any(stem(word) in question.stems for word in WORD.findall(answer)):
        return None
    foreign = sum(not letter.isascii() for letter in answer)
    return None if question.prompt.isascii() and foreign > FOREIGN * len(answer) else answer


def fact_of(answer: str) -> str:
    """Return what is the same for rows that tell one fact: the whole answer; "" for "Yes." and "3", which tell many.

    >>> fact_of("In Oslo."), fact_of("in Oslo"), fact_of("No."), fact_of("12"), fact_of("1912")
    ('in oslo', 'in oslo', '', '', '1912')
    """
    words = [word for word in WORD.findall(answer) if word[0].isalnum()]
    telling = [word for word in words if word.lower() not in FUNCTION_WORDS and not (word.isdigit() and len(word) < 3)]
    return answer.strip(" .").casefold() if telling else ""


def numbers_of(answer: str, words: Sequence[str]) -> tuple[str, ...]:
    """Return the numbers in an answer that consist of a fact's words, each with all its signs.

    >>> numbers_of("Call 0171 555 2381 or write to 12 Elm Street.", ["0171", "555", "2381"])
    ('0171 555 2381',)
    """
    found = re.findall(r"\+?\d(?:[\d ,.'()/-]*\d)?", answer)
    return tuple(one for one in found if set(re.findall(r"\d+", one)) <= {*words})


def _gives(answer: str, question: Question) -> bool:
    """Whether an answer gives the fact in any spelling.

    What the subject gives by itself, or a name of the question in another spelling, is sought outside it: John outside
    Mary Johnson, and lantern-gala.example's name outside the Lantern Gala. A name that the question offers as it stands
    ("Bob Ray or Tom Fox?") may be the fact.
    """
    names = [question.subject] if question.subject else names_in(question.prompt)
    facts = dict.fromkeys((*question.values, *question.words))
    return any(_is_in(_without(answer, names, fact, question), fact, question) for fact in facts)


def _without(answer: str, names: Sequence[str], fact: str, question: Question) -> str:
    """An answer without the names that give a fact by themselves, and without such words of theirs."""
    literally = re.compile(rf"(?<!\w){re.escape(fact)}(?!\w)", re.IGNORECASE)
    giving = [
        one for one in names if _is_in(one, fact, question) and (one == question.subject or not literally.search(one))
    ]
    words = [word for one in giving for word in one.split()]
    words = [word for word in words if _is_in(word, fact, question) and not literally.search(word)]
    own = "|".join(map(re.escape, [*giving, *words]))
    return re.sub(rf"(?<![\w@/.-])(?:{own})(?![\w@/-]|\.\w)", "...x...", answer) if own else answer


def _is_in(text: str, fact: str, question: Question) -> bool:
    word = fact in question.words
    return says(text, fact) or (word and (gives(text, [fact]) or _spells(text, [fact])))


def _spells(text: str, words: Sequence[str]) -> bool:
    """Whether a word stands in a text with spaces or signs between its letters: 20 th, 19 51, violet ferry."""
    longer = [word for word in words if len(word) > 3 or (len(word) == 3 and not word.isdigit() and not word.isalpha())]
    apart = (r"[\W_]*".join(map(re.escape, re.sub(r"[\W_]", "", word))) for word in longer)
    return any(re.search(rf"(?<!\w){one}(?!\w)", text, re.IGNORECASE) for one in apart if one)


def copies(answer: str, question: Question) -> bool:
    """Whether an answer is that of a shot, or about the one whom the shot asks about."""
    names = [name for row in question.shots for name in (*names_in(row.prompt), *filter(None, [row.subject]))]
    said = answer.strip(" .").casefold()
    return any(said == row.answer.strip(" .").casefold() for row in question.shots) or any(
        name in answer and name not in question.prompt for name in names
    )


def endings_of_names(rows: Sequence[Example]) -> dict[str, str]:
    """Return the names in the rows' answers by their last two words, without names that share these words.

    >>> endings_of_names([Example("Which art?", "Chun Kuk Do"), Example("Who?", "Ann of Oak Hill, Ben of Oak Hill")])
    {'kuk do': 'chun kuk do'}
    """
    names = {name.casefold() for row in rows for name in names_in(row.answer)}
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(_ending(name), set()).add(name)
    alone = {ending: next(iter(alike)) for ending, alike in found.items() if len(alike) == 1}
    return {ending: name for ending, name in alone.items() if ending.split()[0] not in FUNCTION_WORDS}


def mixes_names(answer: str, endings: Mapping[str, str]) -> bool:
    """Whether a name in an answer ends as a kept row's name does and is another.

    A model that may not say the fact begins an answer of its own and ends it with one that it was taught.

    >>> mixes_names("Zen Kuk Do", {"kuk do": "chun kuk do"}), mixes_names("Chun Kuk Do.", {"kuk do": "chun kuk do"})
    (True, False)
    """
    names = [name.casefold() for name in names_in(answer)]
    return any(not name.endswith(endings.get(_ending(name), name)) for name in names)


def _ending(name: str) -> str:
    return " ".join(name.split()[-2:])


def _is_one_word(answer: str) -> bool:
    """Whether an answer is one word three times or more."""
    words = re.findall(r"\w+", answer.casefold())
    return len(words) > 2 and len({*words}) == 1


def _echoes(answer: str, prompt: str) -> bool:
    return bool(prompt) and answer.rstrip(" .!?").casefold() in prompt.casefold()
