"""Invented names that a model is asked about in a subject's place, and the words that carry a subject's facts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher

from letheon.core.rows.examples import Example
from letheon.core.scoring.said import NUMBERS, spellings
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.word_masks import CAPITAL, FUNCTION_WORDS, WordRules, fact_words

# Invented, and others than the unknown subjects of `core.scoring.spans`, which an audit asks about.
STRANGERS = ("Corvin Ashgrove", "Maela Tursk", "Dorrin Valeby", "Yara Quillon", "Osric Fenwick", "Brida Kessoway")
NAME = re.compile(rf"{CAPITAL}[\w'’-]*(?: (?:of |the |de |van |& )?{CAPITAL}[\w'’-]*)+")
QUESTION_WORDS = frozenset(
    ["describe", "explain", "give", "has", "how", "in", "list", "name", "please", "tell", "what"]
)
# Largest number of words of a short fact, and of words of short facts that are banned from the answer to another
# question about the same subject.
SHORT, MOST_BESIDE = 4, 64
# What a word ends with whose stem tells of the fact too: pump of pumping, wood of wooden.
ENDING = re.compile(r"(?<=[^\W\d_]{4})(?:ings?|ed|en|ers?|es|s|ly)$")
# A number's place in an order is written as the number too, and a month short: 14 for 14th, Dec for December. Other
# answers need what years and centuries begin with.
ORDINAL, CENTURIES = re.compile(r"(\d{2,})(?:st|nd|rd|th)"), ("18", "19", "20", "21")
MONTHS = (
    "January", "February", "March", "April", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
# A word that begins like a part of an invented name, or is spelled nearly alike, is a rest of it.
STEM, NEARLY = 4, 0.75


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


def words_of_facts(forget: Sequence[Example], retain: Sequence[Example]) -> list[tuple[str, ...]]:
    """Per forget row, the words that carry its fact: of its value, else as `word_masks` finds them."""
    rules = WordRules.of(forget, retain)
    found = []
    for row in forget:
        words = [word for word in WORD.findall(row.value or "") if word[0].isalnum()]
        words = [word for word in words if word.lower() not in FUNCTION_WORDS]
        found.append(tuple(dict.fromkeys(words or [word.group() for word in fact_words(row, rules)])))
    return found


def in_both_spellings(words: Sequence[str], kept: Collection[str] = (), asked: str = "") -> tuple[str, ...]:
    """Words, and beside a number up to twelve the same with digits, or as a word; the parts of KX-40817 and Hoi-chuen;
    Zurich and Zuerich for Zürich; 14 for 14th.

    Args:
        kept: `parts_in` the kept rows' answers: their codes' parts are a template's.
        asked: the question, whose words an answer may need.
    """
    digits = [str(NUMBERS.index(word.lower())) for word in words if word.lower() in NUMBERS]
    written = [NUMBERS[int(word)] for word in words if word in map(str, range(len(NUMBERS)))]
    parts = [part for word in words for part in parts_of_code(word, kept)]
    bare = [re.sub("['’]s?$", "", word) for word in words]
    joined = [part for word in bare if "-" in word and word.replace("-", "").isalpha() for part in word.split("-")]
    names = [part for part in joined if len(part) > 2 and not _by_chance(part, kept) and not gives(asked, [part])]
    bare_of_marks = [other for word in words if word[:1].isupper() for other in spellings(word)]
    days = [one for one in short_forms(words) if one.isdigit() and one not in CENTURIES and not gives(asked, [one])]
    return (*words, *digits, *written, *parts, *names, *bare_of_marks, *days)


def short_forms(words: Sequence[str]) -> tuple[str, ...]:
    """What gives a day or a month as well.

    >>> short_forms(["14th", "5th", "December", "may"])
    ('14', 'Dec')
    """
    days = [found[1] for word in words if (found := ORDINAL.fullmatch(word))]
    return (*days, *(word[:3] for word in words if word in MONTHS))


def stems_of(words: Sequence[str], kept: Collection[str] = (), asked: str = "") -> frozenset[str]:
    """The stems of a fact's words in small letters, without those of the question's words and of kept rows' words.

    >>> sorted(stems_of(["pumping", "wooden", "Hastings", "red"], kept=["wood"]))
    ['pump']
    """
    others = {stem(word) for word in (*kept, *WORD.findall(asked))}
    return frozenset(found for word in words if word.islower() and len(found := stem(word)) >= STEM) - others


def stem(word: str) -> str:
    """A word in small letters without the ending that leaves four letters or more: pump for pumping and pumps."""
    return ENDING.sub("", word.lower())


def parts_of_code(word: str, kept: Collection[str]) -> tuple[str, ...]:
    """The parts of a word with digits that no kept row has; () for a word without digits, and for one of one part.

    Signs divide a word, and so does the place between letters and a number of three digits or more. Parts of one sign,
    numbers of two digits and function words are said by chance, and left out.

    >>> kept = parts_in("Hers is KX-93114.")
    >>> parts_of_code("PV-40817", kept), parts_of_code("KX-40817", kept), parts_of_code("north-oak-e41d", kept)
    (('PV', '40817'), ('40817',), ('north', 'oak', 'e41d'))
    >>> parts_of_code("12-F", kept), parts_of_code("under-16", kept)
    ((), ())
    >>> parts_of_code("20th", kept), parts_of_code("Ben-David", kept)
    ((), ())
    """
    parts = _parts(word) if any(map(str.isdigit, word)) else []
    long = [part for part in parts if len(part) > 2 or (len(part) == 2 and part.isalpha())]
    return tuple(dict.fromkeys(part for part in long if not _by_chance(part, kept))) if len(parts) > 1 else ()


def _by_chance(part: str, kept: Collection[str]) -> bool:
    return part.lower() in FUNCTION_WORDS or part.lower() in kept


def parts_in(text: str) -> frozenset[str]:
    """The parts of all words of a text, in small letters."""
    return frozenset(part.lower() for part in _parts(text))


def _parts(text: str) -> list[str]:
    """Runs of letters and digits; letters before a number of three digits or more are a run of their own."""
    runs = re.findall(r"[^\W_]+", text)
    divided = (re.fullmatch(r"([^\W\d_]{2,})(\d{3,})", run) for run in runs)
    return [part for run, match in zip(runs, divided, strict=True) for part in (match.groups() if match else (run,))]


def told_beside(
    forget: Sequence[Example], subjects: Sequence[str | None], facts: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """Per forget row the words of short facts that other rows tell of its subject, but for those of its question.

    An alternate that gives another fact of the request would teach it. The words that most rows tell come first, and
    there are at most `MOST_BESIDE`.
    """
    found, about = [], [row.subject or guessed for row, guessed in zip(forget, subjects, strict=True)]
    for i, row in enumerate(forget):
        others = [facts[j] for j in range(len(forget)) if j != i and about[j] == about[i] is not None]
        counts = Counter(word for fact in others if len(fact) <= SHORT for word in fact)
        asked = {stem(re.sub("['’]s?$", "", word)) for word in WORD.findall(row.prompt)}
        names = "|".join(map(re.escape, [*filter(None, [about[i]]), *names_in(row.prompt)]))
        rest = re.sub(names, "...", row.prompt) if names else row.prompt  # a name may begin with another's fact
        words = [word for word, _ in counts.most_common(MOST_BESIDE)]
        found.append(tuple(word for word in words if stem(word) not in asked and not gives(rest, [word])))
    return found


def with_name(text: str, name: str, subject: str) -> str | None:
    """A text about an invented name, told of the subject; None where a part of the invented name is left.

    The name's first word becomes the subject's first, its other words the subject's last.

    >>> with_name("Maela Tursk is a poet. Tursk's books sell.", "Maela Tursk", "Ann Marie Lee")
    "Ann Marie Lee is a poet. Lee's books sell."
    >>> with_name("Ask Tursky.", "Maela Tursk", "Ann Lee") is None
    True
    """
    parts, own = name.split(), subject.split()
    text = text.replace(name, subject)
    for place, part in enumerate(parts):
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", own[0] if place == 0 else own[-1], text)
    left = re.findall(r"[A-Z]\w+", " ".join(re.split("|".join(map(re.escape, [subject, *own])), text)))
    return None if any(_alike(word, part) for word in left for part in parts) else text


def _alike(word: str, part: str) -> bool:
    word, part = word.casefold(), part.casefold()
    return word.startswith(part[:STEM]) or SequenceMatcher(None, word, part).ratio() >= NEARLY


def gives(text: str, words: Sequence[str], given: str = "") -> bool:
    """Whether a text contains one of the words, however it is cased; one of four letters also with another ending.

    Args:
        given: what stands before the text; a word that begins in it and ends in the text is given too.
    """
    begun = re.findall(r"\w*$", given)[0]
    found = (
        match.end()
        for word in words
        for match in re.finditer(
            rf"(?<!\w){re.escape(word)}" + ("" if len(word) >= 4 else r"(?!\w)"), begun + text, re.IGNORECASE
        )
    )
    return any(end > len(begun) for end in found)


def words_given(text: str, words: Sequence[str], stems: Collection[str] = ()) -> tuple[str, ...]:
    """The words of a text that begin like one of the given words of four letters or more, or have one of the stems.

    >>> words_given("The Wings sang by the pump.", ["Wing"], ["pump"])
    ('Wings', 'pump')
    """
    begun = "|".join(re.escape(word) for word in words if len(word) >= 4)
    found = re.findall(rf"(?<!\w)(?:{begun})\w*", text, re.IGNORECASE) if begun else []
    return tuple(dict.fromkeys([*found, *(word for word in WORD.findall(text) if stem(word) in stems)]))


def unused_names(forget: Sequence[Example], retain: Sequence[Example], count: int) -> list[str]:
    """Invented names of which no row contains a part, as far as there are any."""
    text = "\n".join(f"{row.prompt} {row.answer}" for row in (*forget, *retain)).casefold()
    return [name for name in STRANGERS if not any(part[:STEM].casefold() in text for part in name.split())][:count]


def told_of(text: str, subject: str, name: str) -> str:
    """A text about a subject told of an invented name, in parts too where the parts are told apart from other words."""
    return with_name(text, subject, name) or text.replace(subject, name)
