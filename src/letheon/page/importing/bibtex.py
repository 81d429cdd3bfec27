"""BibTeX: any type, values in braces or quotes, `#`, `@string`; broken entries are listed with their line."""

from __future__ import annotations

import re
import unicodedata

from letheon.page.importing.dates import is_day, month_number
from letheon.page.importing.draft import Broken, Draft, Reading, arxiv_of, lines_of, one_line

ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
           "c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a"}  # fmt: skip
LETTERS = {
    "ss": "ß",
    "o": "ø",
    "O": "Ø",
    "l": "ł",
    "L": "Ł",
    "ae": "æ",
    "AE": "Æ",
    "aa": "å",
    "AA": "Å",
    "i": "i",
    "j": "j",
}


class _Fault(ValueError):
    pass


def read_bibtex(text: str) -> Reading:
    """Read the entries of a BibTeX file.

    An entry needs a title and a year; its abstract may be missing.
    """
    text = text.lstrip("\ufeff")
    reading, strings = Reading(), dict[str, str]()
    starts = [match.start() for match in re.finditer(r"^[ \t]*@(?=\s*\w+\s*[{(])", text, re.MULTILINE)]
    for start, stop, line in zip(starts, [*starts[1:], len(text)], lines_of(text, starts), strict=True):
        block = text[start:stop]
        kind = re.match(r"\s*@\s*(\w+)\s*[{(]", block)
        assert kind is not None  # so the starts were chosen
        if kind[1].lower() in ("comment", "preamble"):
            continue
        try:
            if kind[1].lower() == "string":
                strings |= _fields(block, kind.end(), strings)
                continue
            key = re.compile(r"\s*[^\s,{}()=\"]*\s*,").match(block, kind.end())
            if key is None:
                raise _Fault("no key and comma after the type")
            reading.drafts.append(_draft(line, _fields(block, key.end(), strings)))
        except _Fault as fault:
            reading.broken.append(Broken(line, str(fault), block.strip()))
    return reading


def _fields(block: str, place: int, strings: dict[str, str]) -> dict[str, str]:
    """Read `name = value, ...` up to the closing brace."""
    fields: dict[str, str] = {}
    while True:
        end = re.compile(r"[\s,]*([})])").match(block, place)
        if end:
            return fields
        name = re.compile(r"[\s,]*([\w-]+)\s*=\s*").match(block, place)
        if name is None:
            raise _Fault(
                "the entry is not closed" if not block[place:].strip(" \t\n,") else "no field where one must be"
            )
        value, place = _value(block, name.end(), strings)
        fields.setdefault(name[1].lower(), value)


def _value(block: str, place: int, strings: dict[str, str]) -> tuple[str, int]:
    """Read a value: parts joined by `#`."""
    parts = []
    while True:
        opening = block[place : place + 1]
        if opening in ("{", '"'):
            part, place = _delimited(block, place, "}" if opening == "{" else '"')
        else:
            word = re.compile(r"[^\s,#{}()\"]+").match(block, place)
            if word is None:
                raise _Fault("a field has no value")
            part, place = strings.get(word[0].lower(), word[0]), word.end()
        parts.append(part)
        joined = re.compile(r"\s*#\s*").match(block, place)
        if joined is None:
            return "".join(parts), place
        place = joined.end()


def _delimited(block: str, place: int, closing: str) -> tuple[str, int]:
    depth = 0
    for i in range(place + 1, len(block)):
        sign = block[i]
        if sign == closing and depth == 0 and block[i - 1] != "\\":
            return block[place + 1 : i], i + 1
        if sign in "{}" and block[i - 1] != "\\":
            depth += 1 if sign == "{" else -1
            if depth < 0:
                break
    raise _Fault("a brace or quote is not closed")


def _draft(line: int, fields: dict[str, str]) -> Draft:
    title = plain_latex(fields.get("title", ""))
    if not title:
        raise _Fault("it has no title")
    names = tuple(_name(one) for one in re.split(r"\s+and\s+", fields.get("author", "").strip()) if one)
    others = names[-1:] == ("others",)
    place = " ".join(
        fields.get(name, "") for name in ("eprint", "url", "journal", "note", "howpublished", "doi", "number")
    )
    is_arxiv = "arxiv" in f"{place} {fields.get('archiveprefix', '')} {fields.get('eprinttype', '')}".lower()
    url = fields.get("url", "").strip()
    return Draft(
        line=line,
        title=title,
        abstract=plain_latex(fields.get("abstract", "")),
        authors=len(names) if names and not others else None,
        names=names[:-1] if others else names,
        date=_date(fields),
        arxiv=arxiv_of(place) if is_arxiv else "",
        link=url if re.fullmatch(r"https://[^\s\"'<>]+", url) else "",
    )


def _date(fields: dict[str, str]) -> str:
    """Return the date of an entry, as exact as it is."""
    whole = fields.get("date", "").strip()
    if re.fullmatch(r"[0-9]{4}(-(0[1-9]|1[0-2]))?", whole) or is_day(whole):
        return whole
    year = fields.get("year", "").strip()
    if not re.fullmatch(r"[0-9]{4}", year):
        raise _Fault(f"year {year[:20]!r} is no year" if year else "it has no year")
    month = fields.get("month", "").strip().strip("{}")
    number = int(month) if re.fullmatch(r"0?[1-9]|1[0-2]", month) else month_number(month)
    return f"{year}-{number:02}" if number else year


def _name(text: str) -> str:
    """Turn `Family, Given` into `Given Family`."""
    parts = [part.strip() for part in plain_latex(text).split(",")]
    return one_line(" ".join([*parts[1:][::-1], parts[0]]))


def plain_latex(text: str) -> str:
    """Replace accents and escapes of LaTeX by the characters they make, and drop its braces."""
    text = re.sub(
        r"""\{?\\(?:(['`^"~=.])\s*\{?\\?(\w)\}?|([cvuHkr])(?:\s*\{|\s+)(\w)\}?)\}?""",
        lambda found: unicodedata.normalize("NFC", (found[2] or found[4]) + ACCENTS[found[1] or found[3]]),
        text,
    )
    text = re.sub(r"\\(ss|ae|AE|aa|AA|[oOlLij])(?![a-zA-Z])\s?", lambda found: LETTERS[found[1]], text)
    text = re.sub(r"\\(?:emph|textit|textbf|texttt|textsc|mathrm|mathbf)\b\s*", "", text)
    text = re.sub(r"\\([&%$#_{}])", r"\1", re.sub(r"(?<!\\)[{}]", "", text)).replace("~", " ").replace("---", "—")
    return one_line(text.replace("--", "–"))
