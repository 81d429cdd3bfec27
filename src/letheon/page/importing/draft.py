"""What a reader of one format makes of a file: drafts of entries, and blocks that could not be read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

ARXIV = re.compile(r"(?<![\w.])(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d+)?(?![\w.]*\d)")


@dataclass(frozen=True)
class Draft:
    """One paper as a file gives it.

    Attributes:
        line: line of the file on which the entry begins, from 1.
        title: the title on one line.
        abstract: the abstract; empty where the format may leave it out and the file does.
        authors: number of authors; None where the file does not say.
        names: the authors' names where the format has them.
        date: ISO date (`2025-08-28`, or `2025-08` or `2025` where no more is given); with `yearless` it has no year.
        yearless: whether `date` is `MM-DD` and takes the year of the page.
        votes: number after the day; None where the file gives none.
        arxiv: identifier without version; empty where the file gives none.
        link: https address of the paper; empty where the file gives none.
    """

    line: int
    title: str
    abstract: str = ""
    authors: int | None = None
    names: tuple[str, ...] = ()
    date: str = ""
    yearless: bool = False
    votes: int | None = None
    arxiv: str = ""
    link: str = ""


@dataclass(frozen=True)
class Broken:
    """A block of a file that is no complete entry: its first line, what is wrong with it, and its whole text."""

    line: int
    problem: str
    text: str


@dataclass(frozen=True)
class Reading:
    """The content of one file.

    Attributes:
        drafts: the entries, in the file's order.
        broken: blocks that could not be read.
        day: `MM-DD` of the page's head; empty where there is none.
        year: year of the page's head; None where it does not say.
    """

    drafts: list[Draft] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    day: str = ""
    year: int | None = None


def one_line(text: str) -> str:
    """Put a text on one line: every run of white space becomes one space."""
    return " ".join(text.split())


def normalised(title: str) -> str:
    """Return the letters and digits of a title, so that case, accents, dashes and LaTeX leave it the same.

    A title that has neither letters nor digits is returned as it is, on one line.
    """
    plain = unicodedata.normalize("NFKD", re.sub(r"\\[a-zA-Z]+\s*|[{}$]", "", title)).casefold()
    words = re.findall(r"[^\W_]+", "".join(sign for sign in plain if not unicodedata.combining(sign)))
    return " ".join(words) or one_line(title)


def lines_of(text: str, places: Iterable[int]) -> Iterator[int]:
    """Yield the number of the line, from 1, of each place in a text; places grow."""
    line, before = 1, 0
    for place in places:
        line += text.count("\n", before, place)
        before = place
        yield line


def contradict(one: str, other: str) -> bool:
    """Return whether two arXiv identifiers are known and differ."""
    return bool(one and other) and one != other


def arxiv_of(text: str) -> str:
    """Return the first arXiv identifier in a text, without its version; empty where there is none."""
    match = ARXIV.search(text)
    return match[1] if match else ""
