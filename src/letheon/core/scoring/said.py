"""Whether an answer says a value, and where: by words, in any case, with any punctuation. Ours.

A word is a run of digits and of letters that have a case ("B12"); a run of numerals ("三十五") or of Katakana; any
other letter of a script without spaces; a run of letters that have no case; a symbol, a minus, a sign within a number.
Numbers and names inside longer ones are others: no 4 in 1934, no Ann in Anna.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal

# How the names of letters begin whose scripts write no spaces (beside Katakana, which stands in runs).
UNSPACED = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
# Punctuation that says as much as a symbol; Turkish letters that casefold alters; signs that are not seen.
SYMBOLS = "%&#@"
PLAIN = str.maketrans({"\u0130": "i", "\u0131": "i", "\u2212": "-", "\u00ad": "", "\ufe0e": "", "\ufe0f": ""})
# Letters that a particle may add to a word of two letters or more: in Hangul behind it ("서울에서" says 서울), in
# Hebrew and Arabic before it.
PARTICLE = 3

# Words that are also found without their marks; letters that have no mark to take off; German letters as two.
UNMARKED = 5
LONG_WORD = re.compile(rf"\w{{{UNMARKED},}}")
BARE = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ß": "ss", "æ": "ae", "œ": "oe"})
GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})

Kind = Literal["", "run", "numeral", "katakana", "letter", "caseless", "symbol"]
Word = tuple[int, str, Kind]


def says(answer: str, value: str) -> bool:
    """Whether an answer gives a value, perhaps as a code or large number with other signs, or without its marks.

    >>> says('She owns "The Blue Door".', "the Blue, Door"), says("In 1934.", "4"), says("彼は東京に住む。", "東京")
    (True, False, True)
    >>> says("Call 01715552381.", "0171 555 2381"), says("In Zurich.", "Zürich"), says("In Zuerich.", "Zürich")
    (True, True, True)
    """
    if place_of(answer, value) is not None:
        return True
    if (pattern := _digits_apart(value)) is not None and pattern.search(_folded(answer)):
        return True
    if answer.isascii() and value.isascii():
        return False
    written = [(answer, one) for one in spellings(value)] + [(one, value) for one in spellings(answer)]
    return any(place_of(said, wanted) is not None for said, wanted in written)


@lru_cache(maxsize=1024)
def spellings(text: str) -> tuple[str, ...]:
    """A text as it is written without marks on Latin letters, and with German letters in two; () if it is so already.

    Words of fewer than `UNMARKED` letters stay as they are: without its mark a short one may be another word.

    >>> spellings("Zürich"), spellings("Élodie"), spellings("Café"), spellings("Bonn")
    (('Zurich', 'Zuerich'), ('Elodie',), (), ())
    """
    if text.isascii():
        return ()
    text = unicodedata.normalize("NFC", text)
    plain, german = (re.sub(LONG_WORD, way, text) for way in (_unmarked, lambda found: _unmarked(found, GERMAN)))
    return tuple(dict.fromkeys(one for one in (plain, german) if one != text))


def _unmarked(found: re.Match[str], letters: Mapping[int, str] = {}) -> str:
    apart = unicodedata.normalize("NFD", found.group().translate({**BARE, **letters}))
    return unicodedata.normalize("NFC", re.sub(r"(?<=[a-zA-Z])[\u0300-\u036f]+", "", apart))


@lru_cache(maxsize=256)
def _digits_apart(value: str) -> re.Pattern[str] | None:
    """A telephone number, a code or a number of thousands, with other signs or none between its parts, or None.

    A point, a colon, a stroke or a date's hyphens say where the parts of other numbers end.
    """
    text = _folded(value).strip()
    signs, grouped = re.sub(r"[ ,()+'-]", "", text), re.fullmatch(r"\d{1,3}(?:[ ,']\d{3})+", text)
    date = re.fullmatch(r"\d{1,4}-\d\d?-\d{1,4}", text)
    if not (signs.isascii() and signs.isalnum()) or ("," in text and not grouped) or text[0] == "-" or date:
        return None
    parts, between = list(signs), "[ ()-]{0,2}"
    if signs.isdigit() and len(signs) < 7:
        of_thousands = grouped or (text == signs and len(signs) > 4)
        parts, between = re.findall(r"\d{1,3}(?=(?:\d{3})*$)", signs) if of_thousands else [], "[ ,']?"
    elif sum(map(str.isdigit, signs)) < 3 or len(signs) < 4 or re.search(r"[a-z]{4}", signs):
        return None
    return re.compile(rf"(?<![a-z0-9.,]){between.join(parts)}(?![a-z0-9]|[.,]\d)") if len(parts) > 1 else None


def place_of(answer: str, value: str) -> int | None:
    """The place of the first letter of a value in an answer, once both are folded; None if it isn't said."""
    wanted, folded = said_words(value), _folded(answer)
    if not wanted:
        place = answer.find(value.strip())
        return place if value.strip() and place >= 0 else None
    if any(word not in folded for _, word, _ in wanted):  # mostly, and much quicker
        return None
    told = said_words(answer)
    for start in range(len(told) - len(wanted) + 1):
        if all(map(_is, told[start : start + len(wanted)], wanted)):
            return told[start][0]
    return None


@lru_cache(maxsize=16)
def said_words(text: str) -> tuple[Word, ...]:
    """The words of a text: of each its place once the text is folded, its letters and its kind."""
    return tuple(_words(_folded(text)))


def _is(told: Word, wanted: Word) -> bool:
    """Whether a word is the wanted one, perhaps with a particle."""
    (_, long, _), (_, word, kind) = told, wanted
    if long == word:
        return True
    if kind != "caseless" or len(word) < 2 or len(long) - len(word) > PARTICLE:
        return False
    script = unicodedata.name(word[0], "").split(" ")[0]
    if script == "HANGUL":
        return long.startswith(word)
    return script in ("HEBREW", "ARABIC") and long.endswith(word)


def _folded(text: str) -> str:
    """A text in lower case, accents as one letter where there is one, letters of full width and all digits as plain."""
    if text.isascii():
        return text.casefold()
    return unicodedata.normalize("NFC", "".join(map(_plain, text.translate(PLAIN))).casefold())


def _plain(letter: str) -> str:
    if letter.isdecimal():
        return str(unicodedata.decimal(letter))
    return unicodedata.normalize("NFKC", letter) if unicodedata.east_asian_width(letter) in "FH" else letter


def _words(text: str) -> Iterator[Word]:
    """The words of a folded text."""
    start, before = 0, ""
    kinds: list[Kind] = []
    for place in range(len(text)):
        kinds.append(_kind(text, place, kinds[-1] if kinds else ""))
        alone = kinds[-1] in ("letter", "symbol") and not _is_mark(text[place])
        if kinds[-1] != before or alone:
            if before:
                yield start, text[start:place], kinds[place - 1]
            start, before = place, kinds[-1]
    if before:
        yield start, text[start:], kinds[-1]


def _kind(text: str, place: int, before: Kind) -> Kind:
    letter, behind = text[place], text[place + 1 : place + 2]
    if letter.isascii() and letter.isalnum():
        return "run"
    if _is_mark(letter):
        return before
    if letter.isalnum():
        return _kind_of_letter(letter)
    if letter in ".,:" and behind.isdigit():  # in a number, or ".5"
        return "symbol" if text[place - 1 : place].isdigit() or (letter == "." and not before) else ""
    if letter == "-":  # of a number, or of a grade or blood group
        of_number = behind.isdigit() and before in ("", "symbol")
        return "symbol" if of_number or (before == "run" and not behind.isalnum()) else ""
    return "symbol" if letter in SYMBOLS or unicodedata.category(letter) in ("Sc", "Sm", "So") else ""


def _kind_of_letter(letter: str) -> Kind:
    if "\u02b0" <= letter <= "\u02ff":  # apostrophes and the like that count as letters
        return ""
    if letter.isdecimal() or letter.lower() != letter.upper():
        return "run"
    name = unicodedata.name(letter, "")
    if name.startswith("KATAKANA"):
        return "katakana"
    if name.startswith(UNSPACED):
        return "numeral" if letter.isnumeric() else "letter"
    return "caseless"


def _is_mark(letter: str) -> bool:
    return not letter.isascii() and unicodedata.category(letter).startswith("M")
