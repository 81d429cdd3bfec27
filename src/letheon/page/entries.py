"""An entry of the page: a paper of the catalogue, or one that a user imported."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from letheon.papers.catalogue import badge, is_current, papers, read_evidence, read_results
from letheon.papers.page import listing_json

STAR = "*"  # behind a verdict that an earlier rule gave
NO_CODE = "no code yet"  # badge of an imported paper


@dataclass(frozen=True)
class Entry:
    """One paper of the page.

    Attributes:
        key: its name in addresses and on the command line; unique.
        title: the published title.
        authors: names in the published order; empty where not known.
        author_count: number of authors, where only the number is known as well; 0 if unknown.
        date: ISO date of the first version, `yyyy-mm` or `yyyy-mm-dd`; empty if unknown.
        arxiv: identifier without version; empty if unknown.
        url: address of the paper; empty if unknown.
        abstract: what it says.
        own_words: whether the abstract is this library's summary; else it is the authors' own.
        wing: the part of the library that it belongs to (`forget`, `retain`, ...); empty if none.
        badge: how far its code has come.
        verdict: the recorded verdict on its claim; empty if none.
        current: whether the present rule gives the verdict; a verdict of an earlier rule counts for nothing.
        seconds: how long the recorded run took; None if no run was recorded under the present rule.
        source: `letheon`, or the name of the import that it came with.
        votes: number of votes on the page that it was imported from; None if that page gives none.
    """

    key: str
    title: str
    authors: tuple[str, ...] = ()
    author_count: int = 0
    date: str = ""
    arxiv: str = ""
    url: str = ""
    abstract: str = ""
    own_words: bool = False
    wing: str = ""
    badge: str = NO_CODE
    verdict: str = ""
    current: bool = True
    seconds: float | None = None
    source: str = ""
    votes: int | None = None

    @property
    def ours(self) -> bool:
        """Whether the paper is one of the catalogue and not an imported one."""
        return self.source == "letheon"

    @property
    def standing(self) -> str:
        """The verdict, with a star if an earlier rule gave it; empty if there is none."""
        return self.verdict if self.current or not self.verdict else f"{self.verdict}{STAR}"


@cache
def catalogue_entries() -> tuple[Entry, ...]:
    """The papers of the catalogue as entries, by number; read once per process."""
    evidence, results = read_evidence(), read_results()
    judged = {key for key, result in results.items() if is_current(result)}
    return tuple(
        Entry(
            key=paper.key,
            title=paper.title,
            authors=paper.authors,
            author_count=len(paper.authors),
            date=paper.date or "",
            arxiv=paper.arxiv or "",
            url=f"https://arxiv.org/abs/{paper.arxiv}" if paper.arxiv else "",
            abstract=paper.abstract,
            own_words=True,
            wing=wing_of(paper.room),
            badge=badge(paper, evidence, results),
            verdict=results.get(paper.key, {}).get("verdict", ""),
            current=paper.key in judged or paper.key not in results,
            seconds=results[paper.key].get("seconds") if paper.key in judged else None,
            source="letheon",
        )
        for paper in papers()
    )


def wing_of(room: str) -> str:
    """The first package of a room: `forget/updates/gu` and `forget (baselines), docs` give `forget`."""
    return re.split(r"[/ ,]", room, maxsplit=1)[0]


@cache
def _listing() -> dict[str, dict[str, Any]]:
    return {line["key"]: line for line in listing_json()}


def as_json(entry: Entry) -> dict[str, Any]:
    """The line of `letheon papers --json` for a paper of the catalogue; an imported paper has all its fields.

    An imported paper's line begins with the same fields, `number` and `rule` being None.
    """
    if entry.ours:
        return _listing()[entry.key]
    line = {"number": None, "key": entry.key, "title": entry.title, "room": entry.wing or None, "badge": entry.badge}
    return {**asdict(entry), **line, "verdict": entry.verdict or None, "rule": None, "authors": list(entry.authors)}


def plain_title(title: str) -> str:
    """A title for comparison: lower case letters and digits alone; the title itself where it has none of them."""
    return re.sub(r"[\W_]+", "", title.casefold()) or title.strip()
