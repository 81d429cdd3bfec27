"""What a reader typed into the search: words, fields such as `author:` and `year:2025`, arXiv identifiers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from letheon.page.entries import STAR, Entry
from letheon.page.words import words_of

FIELDS = ("author", "year", "verdict", "badge", "wing", "source")
FIELD = re.compile(rf'\b({"|".join(FIELDS)}):("([^"]*)"|\S*)', re.IGNORECASE)
ARXIV = re.compile(r"(?:arxiv:\s*|https?://\S*?/)?(\d{4}\.\d{4,5})(?:v\d+)?(?:\.pdf)?", re.IGNORECASE)
LONGEST = 400  # characters; what follows is not read


@dataclass(frozen=True)
class Query:
    """A search, taken apart.

    Attributes:
        text: what stands outside fields, as it was typed.
        words: the same as words in lower case.
        fields: (name, value) pairs, all of which must match.
        arxiv: an arXiv identifier, empty if none was typed.
    """

    text: str
    words: tuple[str, ...]
    fields: tuple[tuple[str, str], ...] = ()
    arxiv: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.words or self.fields or self.arxiv)

    def allows(self, entry: Entry) -> bool:
        """Whether a paper matches every field."""
        return all(_matches(entry, name, value) for name, value in self.fields)


def parse(text: str) -> Query:
    """Take a search apart."""
    text = text[:LONGEST]
    fields = tuple(
        (match[1].lower(), value) for match in FIELD.finditer(text) if (value := (match[3] or match[2]).strip('" '))
    )
    text = FIELD.sub(" ", text)
    identifier = ARXIV.search(text)
    text = " ".join((ARXIV.sub(" ", text) if identifier else text).split())
    return Query(text, tuple(dict.fromkeys(words_of(text))), fields, identifier[1] if identifier else "")


def _matches(entry: Entry, name: str, value: str) -> bool:
    if name == "author":
        wanted = words_of(value)
        given = [word for author in entry.authors for word in words_of(author)]
        return all(any(word.startswith(part) for word in given) for part in wanted)
    if name == "year":
        first, to, last = value.partition("-")
        return bool(entry.date) and first <= entry.date[:4] <= (last or ("9999" if to else first))
    if name == "verdict" and entry.standing.endswith(STAR) and not value.endswith(STAR):
        return False  # a verdict of an earlier rule is asked for with its star
    actual = {"verdict": entry.standing, "badge": entry.badge, "wing": entry.wing, "source": entry.source}[name]
    return actual.casefold().startswith(value.casefold())
