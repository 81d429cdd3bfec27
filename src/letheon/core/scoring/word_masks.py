"""Which tokens of an answer carry the fact, word by word, where a row names no value.

Ours, of no paper. A span from the first to the last new word covers most of a long answer, function words included;
a loss on it damages the language after the facts have gone. Here a word carries the fact unless it is a function word,
a word of the question, a word that many retain answers share (a template's; for running text retained texts alone make
one), or the continuation of a name that other questions give. The masks follow from the texts alone: no model is asked.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from letheon.core.rows.encoding import Encoder
from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import JOINING, UNIT, WORD

FUNCTION_WORDS = JOINING | frozenset(
    WORD.findall(
        "about after all also am any are be because been before being between both can could did do does during each "
        "few had has have he her hers him his how i if it it's its just may me might more most my no not one only "
        "other our out over own s shall she should since so some such t than their them then there these they this "
        "those through under until up us very we what while whom whose why will would yes you your"
    )
)
# Of these, with a capital within a sentence: names, and a month.
NAMES_TOO = frozenset({"may", "will"})
# A capital letter of a European script.
CAPITAL = f"[{''.join(letter for letter in map(chr, range(0x590)) if letter.isupper())}]"
# A word of at least this many retain answers, and of at least this share of them, belongs to a template.
TEMPLATE_ROWS, TEMPLATE_SHARE = 3, 0.05
# Of running texts a third; of names and numbers, which three may share by chance or design, a half and more of them.
SHARE_OF_TEXTS, NAME_ROWS, NAME_SHARE = 1 / 3, 6, 1 / 2


@dataclass(frozen=True)
class WordRules:
    """What the rows of a request say about each other's words."""

    shared: frozenset[str] = frozenset()  # lower-case words that many retain answers contain
    names: frozenset[str] = frozenset()  # lower-case parts of names that the forget questions contain
    shared_by_texts: frozenset[str] = frozenset()  # lower-case words of the template of retained running texts

    @classmethod
    def of(cls, forget: Sequence[Example], retain: Sequence[Example]) -> Self:
        """The rules of a request's rows."""
        later = (word for row in forget for word in WORD.findall(row.prompt)[1:])  # any first word has a capital
        names = frozenset(word.lower() for word in later if word[0].isupper())
        return cls(_shared(retain), names, _template(forget, retain))


def _shared(rows: Sequence[Example]) -> frozenset[str]:
    """The words of a template that rows have in common."""
    counts = Counter(word for row in rows for word in set(_words(row.answer)))
    least = max(TEMPLATE_ROWS, TEMPLATE_SHARE * len(rows))
    return frozenset(word for word, count in counts.items() if count >= least)


def _template(forget: Sequence[Example], retain: Sequence[Example]) -> frozenset[str]:
    """The words that retained running texts have in common.

    What is a name or a number in any text of the request has to stand in more of them.
    """
    kept, others = ([row.answer for row in rows if not row.prompt] for rows in (retain, forget))
    counts = Counter(word for text in kept for word in set(_words(text)))
    specific = (one.group() for text in (*kept, *others) for one in WORD.finditer(text) if is_specific(one, text))
    names = {word for one in specific for word in _words(one)}
    least, least_of_names = max(TEMPLATE_ROWS, SHARE_OF_TEXTS * len(kept)), max(NAME_ROWS, NAME_SHARE * len(kept))
    return frozenset(word for word, count in counts.items() if count >= (least_of_names if word in names else least))


def is_specific(word: re.Match[str], text: str) -> bool:
    """Whether a word is a number, or a name: it has a capital within a sentence."""
    if any(map(str.isdigit, word.group())):
        return True
    return word.group()[0].isupper() and _is_within(word, text)


def fact_words(row: Example, rules: WordRules = WordRules()) -> list[re.Match[str]]:
    """The words of a row's answer that carry its fact, as matches with their places in the answer.

    If every new word is a template's, all new words count; if the question gives every word, the whole answer does.

    >>> [word.group() for word in fact_words(Example("Who wrote it?", "It was written by Ada Orr in 1913."))]
    ['written', 'Ada', 'Orr', '1913']
    """
    words = [word for word in WORD.finditer(row.answer) if word.group()[0].isalnum()]
    asked = set(_words(row.prompt)) | set(_words(row.subject or ""))
    new = [word for word in words if not _says_nothing(word.group().lower(), asked, _is_name(word, row.answer))]
    shared = rules.shared if row.prompt else rules.shared_by_texts
    specific = [word for word in new if word.group().lower() not in shared]
    chosen = [word for i, word in enumerate(specific) if not _goes_on(specific[:i], word, row.answer, rules.names)]
    return chosen or new or words


def telling_words(row: Example, rules: WordRules = WordRules()) -> list[tuple[int, int]]:
    """The places of `fact_words` in a row's answer, each as wide as the address, path or number that it is a part of.

    >>> row = Example("What is the e-mail address of Ann?", "It is ann@mail.org, since 12:30.")
    >>> [row.answer[begin:end] for begin, end in telling_words(row)]
    ['ann@mail.org', '12:30']
    """
    units = [unit.span() for unit in UNIT.finditer(row.answer)]
    places = [word.span() for word in fact_words(row, rules)]
    whole = (next((unit for unit in units if unit[0] <= one[0] < unit[1]), one) for one in places)
    return list(dict.fromkeys(whole))


def span_of_fact(row: Example, rules: WordRules = WordRules()) -> str:
    """The row's answer from the first to the last word that carries its fact; empty where it has no words.

    It goes on over words with a capital, which may be no fact by themselves (the Do of Jeet Kune Do).

    >>> span_of_fact(Example("Who wrote it?", "It was written by Ada Orr in 1913."))
    'written by Ada Orr in 1913'
    """
    if not (places := telling_words(row, rules)):
        return ""
    (begin, _), (last, end) = places[0], places[-1]
    further = re.compile(rf"(?: {CAPITAL}\w*)*").match(row.answer, end) if row.answer[last].isupper() else None
    return row.answer[begin : further.end() if further else end]


def word_masks(encoder: Encoder, forget: Sequence[Example], retain: Sequence[Example]) -> list[tuple[bool, ...]]:
    """Per forget row and answer token, whether the token belongs to a word that carries the fact.

    A row that gives its `value` has the tokens of the value; see `fact_words` for the others.
    """
    rules = WordRules.of(forget, retain)
    masks = []
    for row in forget:
        if row.value is not None:
            masks.append(encoder.encode(row).value)
            continue
        _, spans = encoder.answer(row.answer, end=bool(row.prompt))
        places = [word.span() for word in fact_words(row, rules)]
        inside = [any(begin < stop and end > start for start, stop in places) for begin, end in spans]
        masks.append(tuple(inside) if any(inside) else (True,) * len(spans))
    return masks


def _words(text: str) -> Iterable[str]:
    """Lower-case words, and each word before its apostrophe."""
    found = [word.lower() for word in WORD.findall(text)]
    return [*found, *(re.split("['’]", word)[0] for word in found)]


def _says_nothing(word: str, asked: set[str], is_name: bool) -> bool:
    stem = re.split("['’]", word)[0]
    joins = word in FUNCTION_WORDS and not is_name
    return joins or word in asked or stem in asked or (len(word) == 1 and word.isalpha())


def _is_name(word: re.Match[str], answer: str) -> bool:
    """Whether a function word is a name where it stands: Theresa May, Will Vint in the middle of a sentence."""
    if not (word.group()[0].isupper() and word.group().lower() in NAMES_TOO):
        return False
    return _is_within(word, answer)


def _is_within(word: re.Match[str], answer: str) -> bool:
    """Whether a word stands within a sentence, so that a capital of it says something."""
    before = answer[: word.start()].rstrip(" \n\"'“‘(")
    titled = re.search(r"(?:\d|\b(?:Dr|Mr|Mrs|Ms|St|[A-Z]))\.$", before[-8:]) is not None
    return bool(before) and (titled or before[-1] not in ".!?:")


def _goes_on(earlier: Sequence[re.Match[str]], word: re.Match[str], answer: str, names: frozenset[str]) -> bool:
    """Whether a word continues a name: other questions give both it and the word directly before it."""
    if not earlier or word.group().lower() not in names:
        return False
    last = earlier[-1]
    return last.group().lower() in names and not answer[last.end() : word.start()].strip()
