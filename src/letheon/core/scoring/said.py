"""Whether an answer says a value, and where: by words, in any case, with any punctuation. Ours.

A word is a run of digits and of letters that have a case ("B12"); a run of numerals ("三十五") or of Katakana; any
other letter of a script without spaces; a run of letters that have no case; a symbol, a minus, a sign within a number.
Numbers and names inside longer ones are others: no 4 in 1934, no Ann in Anna.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
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

# Numbers that are written as a word or with a digit.
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# Words that are also found without their marks; letters that have no mark to take off; letters that are also written as
# two, also in shorter words: nobody takes Koeln for another one.
UNMARKED = 5
LONG_WORD, LETTERS_AS_TWO = re.compile(rf"\w{{{UNMARKED},}}"), re.compile(r"\w{4,}")
ALWAYS_TWO = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe"}
UMLAUTS = {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Å": "Aa"}
AS_TWO = str.maketrans(UMLAUTS | ALWAYS_TWO)
BARE = str.maketrans({"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ё": "е", "Ё": "Е"} | ALWAYS_TWO)

# Of numbers and codes: an amount with its currency or unit, a date, what stands before a telephone number's own digits.
MONEY = {"$": "dollars?|usd", "€": "euros?|eur", "£": "pounds?|gbp", "¥": "yen|jpy"}
CURRENCIES, HYPHENS, SPACES = "".join(MONEY), "[\u2010-\u2015]", "[\u00a0\u2007-\u200a\u202f]"
AMOUNT = re.compile(rf"([{CURRENCIES}]?) ?(\d{{1,3}}(?:[ ,']\d{{3}})+|\d+) ?([{CURRENCIES}]|[a-z]*)")
A_YEAR, A_DATE = re.compile(r"1[5-9]\d\d|20\d\d"), re.compile(r"\d{4}([-/])\d\d?\1\d\d?|\d\d?([-/])\d\d?\2\d{4}")
BETWEEN_SIGNS, BEFORE_A_CALL = "[ ()/+'-]", re.compile(r"(?:\+\d{1,3}[ (]+0?|0)")
# A value that is a number alone may be said otherwise (three for 3) in an answer of at most FEW_WORDS words.
FEW_WORDS = 4
# A code has at least so many signs and digits. No text says a number of MANY digits by chance.
OF_A_CODE, MANY = ((4, 3), (6, 2)), 7

Kind = Literal["", "run", "numeral", "katakana", "letter", "caseless", "symbol"]
Word = tuple[int, str, Kind]


def says(answer: str, value: str) -> bool:
    """Whether an answer gives a value, perhaps a code or number with other signs or as a word, or without its marks.

    >>> says('She owns "The Blue Door".', "the Blue, Door"), says("In 1934.", "4"), says("彼は東京に住む。", "東京")
    (True, False, True)
    >>> says("Call 01715552381.", "0171 555 2381"), says("In Zurich.", "Zürich"), says("In Zuerich.", "Zürich")
    (True, True, True)
    >>> says("Call +49 171 5552381.", "0171/5552381"), says("Her IBAN is NL91ABNA0417164300", "NL91 ABNA 0417 1643 00")
    (True, True)
    """
    if place_of(answer, value) is not None:
        return True
    if (pattern := _digits_apart(value)) is not None and pattern.search(_with_plain_signs(answer)):
        return True
    if (number := _numbers_otherwise(value)) is not None and place_of(answer, number) is not None:
        return len(said_words(value)) > 1 or len(said_words(answer)) <= FEW_WORDS
    if answer.isascii() and value.isascii():
        return False
    written = [(answer, one) for one in spellings(value)] + [(one, value) for one in spellings(answer)]
    return any(place_of(said, wanted) is not None for said, wanted in written)


@lru_cache(maxsize=256)
def _numbers_otherwise(value: str) -> str | None:
    """A value with its numbers from two to twelve as words instead of digits, or the other way; None without any.

    >>> _numbers_otherwise("3 cats"), _numbers_otherwise("seven, at 12"), _numbers_otherwise("13 cats")
    ('three cats', '7, at twelve', None)
    """
    other = dict(zip(map(str, range(2, 13)), NUMBERS[2:], strict=True))
    other |= {word: digit for digit, word in other.items()}
    written = re.sub(
        r"(?<![\w.,:-])\w+(?![\w:-]|[.,]\d)", lambda word: other.get(word.group().lower(), word.group()), value
    )
    return written if written != value else None


@lru_cache(maxsize=1024)
def spellings(text: str) -> tuple[str, ...]:
    """A text as it is written without marks on its letters, and with letters as two; () if it is so already.

    Words of fewer than `UNMARKED` letters keep their marks: without one a short one may be another word.

    >>> spellings("Zürich"), spellings("Élodie"), spellings("Café"), spellings("Köln"), spellings("Bonn")
    (('Zurich', 'Zuerich'), ('Elodie',), (), ('Koeln',), ())
    """
    if text.isascii():
        return ()
    text = unicodedata.normalize("NFC", text)
    as_two = re.sub(LETTERS_AS_TWO, lambda found: found.group().translate(AS_TWO), text)
    return tuple(dict.fromkeys(one for one in (_unmarked(text), _unmarked(as_two)) if one != text))


def _unmarked(text: str) -> str:
    def bare(found: re.Match[str]) -> str:
        apart = unicodedata.normalize("NFD", found.group().translate(BARE))
        return unicodedata.normalize("NFC", re.sub(r"(?<=[a-zA-Z])[\u0300-\u036f]+", "", apart))

    return re.sub(LONG_WORD, bare, text)


@lru_cache(maxsize=256)
def _digits_apart(value: str) -> re.Pattern[str] | None:
    """An amount of thousands, a code or a telephone number, with other signs or none between its parts, or None.

    The signs within other numbers, and within dates, say where their parts end.
    """
    text = _with_plain_signs(value).strip()
    found = [pattern for pattern in (_amount(text), _code(text)) if pattern]
    return re.compile("|".join(found)) if found else None


def _amount(text: str) -> str:
    """The pattern of a number of thousands, or before a unit: with its unit, or with its currency as sign or word."""
    match = AMOUNT.fullmatch(text)
    before, number, unit = match.groups() if match else ("", "", "")
    digits, currency = re.sub(r"\D", "", number), before or (unit if unit in MONEY else "")
    small = len(digits) < 4 or (A_YEAR.fullmatch(number) is not None and not currency)
    if not digits or (small and not unit.isalpha()) or (digits[0] == "0" and (len(digits) < 5 or currency or unit)):
        return ""
    thousands = "[ ,']?".join(re.findall(r"\d{1,3}(?=(?:\d{3})*$)", digits))
    start, end = r"(?<![a-z0-9.,])", r"(?![a-z0-9]|[.,]\d)"
    if currency:
        sign = re.escape(currency)
        return rf"{sign} ?{thousands}{end}|{start}{thousands} ?(?:{sign}|(?:{MONEY[currency]})(?![a-z]))"
    return rf"{start}{thousands} ?{unit}(?![a-z0-9])" if unit else rf"{start}{thousands}{end}"


def _code(text: str) -> str:
    """The pattern of a code's letters and digits, or of a telephone number's, whatever country it is called from."""
    signs = re.sub(f"{BETWEEN_SIGNS}+", "", text)
    digits = sum(map(str.isdigit, signs))
    enough = any(len(signs) >= length and digits >= least for length, least in OF_A_CODE)
    if not (signs.isascii() and signs.isalnum() and enough) or text[0] == "-" or A_DATE.fullmatch(text):
        return ""
    if signs.isdigit() and digits < MANY:
        return ""
    call, before = BEFORE_A_CALL.match(text), ""
    if call and signs.isdigit() and digits > MANY + 1:
        text, before = text[call.end() :], r"(?:(?:\+|00)\d{1,3}[ ()./-]{0,2}(?:\(?0\)?[ ()./-]{0,2})?|0)?"
    groups = [group for group in re.split(f"{BETWEEN_SIGNS}+", text) if group]
    parts = [list(group) if digits > 2 else re.findall(r"[a-z]|\d+", group) for group in groups]  # no 12 in "1-2 weeks"
    wide = "[ ()./-]{0,2}" if digits >= MANY else "[ ()-]{0,2}"
    inside = wide if before else "[ ()-]{0,2}"  # a telephone number may be divided anywhere
    return rf"(?<![a-z0-9.,]){before}{wide.join(inside.join(one) for one in parts)}(?![a-z0-9]|[.,]\d)"


def _with_plain_signs(text: str) -> str:
    """A folded text with plain hyphens and spaces."""
    folded = _folded(text)
    return folded if folded.isascii() else re.sub(HYPHENS, "-", re.sub(SPACES, " ", folded))


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
