"""Bring the papers of a reading onto the shelf: known ones are matched to the catalogue, others enter without code."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from letheon.core.errors import InputError
from letheon.page.entries import Entry
from letheon.page.importing.arxiv_ids import API, fetch_arxiv, is_arxiv_id
from letheon.page.importing.dates import page_year
from letheon.page.importing.draft import Broken, Draft, Reading, contradict, normalised
from letheon.page.importing.files import read_papers
from letheon.page.importing.matching import Known
from letheon.page.shelf import Shelf
from letheon.papers.catalogue import papers

State = Literal["new", "changed", "unchanged", "known"]


@dataclass(frozen=True)
class Line:
    """What became of one entry of a file.

    Attributes:
        line: line of the file.
        title: the title as the file has it.
        key: the paper's key on the page.
        state: `new`, `changed`, `unchanged`, or `known` where the paper is one of the catalogue.
        skeleton: the command that starts code for the paper; empty where there is code.
    """

    line: int
    title: str
    key: str
    state: State
    skeleton: str = ""


@dataclass(frozen=True)
class Imported:
    """What became of one file: its entries, the broken blocks, and the year that days without a year were given."""

    source: str
    year: int | None
    lines: tuple[Line, ...]
    broken: tuple[Broken, ...]

    def count(self, state: State) -> int:
        """Return how many entries have a state."""
        return sum(line.state == state for line in self.lines)


def import_sources(shelf: Shelf, sources: Sequence[str], year: int | None = None, api: str = API) -> list[Imported]:
    """Import files and arXiv identifiers.

    Args:
        shelf: the reader's file.
        sources: paths of files, or arXiv identifiers, which are fetched together.
        year: year of a daily page whose days have none; by default it is inferred.
        api: address of arXiv's interface.

    Raises:
        InputError: a file cannot be read or holds no papers; nothing has been stored.
        LetheonError: arXiv cannot be reached; nothing has been stored.
    """
    ids = [source for source in sources if is_arxiv_id(source) and not Path(source).is_file()]
    missing = [source for source in sources if source not in ids and not Path(source).is_file()]
    if missing:
        raise InputError(
            f"{missing[0]} is neither a file nor an arXiv identifier", "check the path; ids look like 2402.03300"
        )
    today = date.today()
    readings = []
    for path in (Path(source) for source in sources if source not in ids):
        saved = min(today, datetime.fromtimestamp(path.stat().st_mtime).date())
        readings.append((path.name, read_papers(path), saved))
    if ids:
        readings.append(("arXiv", fetch_arxiv(ids, api), today))
    matched = [(match_reading(reading, saved, year), name) for name, reading, saved in readings]
    with shelf.transaction():
        return [_store(shelf, one, name) for one, name in matched]


def import_reading(shelf: Shelf, reading: Reading, source: str, saved: date, year: int | None = None) -> Imported:
    """Store the papers of one reading.

    Args:
        shelf: the reader's file.
        reading: what a reader made of the file.
        source: name of the file.
        saved: the day on which the file was saved; it bounds the year of a page that does not say its own.
        year: the page's year, if the user gives it.
    """
    return _store(shelf, match_reading(reading, saved, year), source)


@dataclass(frozen=True)
class Matched:
    """A reading whose days have their years and whose papers are known from others.

    Attributes:
        year: the year that days without one were given; None where there are no such days.
        known: (draft, key) of each paper that the catalogue has.
        drafts: papers that the catalogue does not have.
        again: (draft, first) of each draft that the file has already had in `drafts`, word for word.
        broken: what cannot be stored.
    """

    year: int | None
    known: list[tuple[Draft, str]]
    drafts: list[Draft]
    again: list[tuple[Draft, Draft]]
    broken: list[Broken]


def match_reading(reading: Reading, saved: date, year: int | None = None) -> Matched:
    """Match the papers of a reading with the catalogue and with each other; nothing is stored."""
    known = Known(papers())
    matches = [(draft, known.match(draft)) for draft in reading.drafts]
    days = [(draft.date, paper.date or "") for draft, paper in matches if paper and draft.yearless]
    chosen = page_year(reading.day, reading.year, days, saved, year)
    used = any(draft.yearless for draft in reading.drafts)
    matched = Matched(chosen if used else None, [], [], [], list(reading.broken))
    seen: dict[str, list[Draft]] = {}
    for draft, paper in matches:
        dated = _dated(draft, chosen)
        if dated is None:
            matched.broken.append(_broken(draft, f"{chosen} has no 29th of February"))
        elif paper is not None:
            matched.known.append((draft, paper.key))
        elif (first := _first(seen, dated)) is None:
            matched.drafts.append(dated)
            for name in filter(None, (normalised(dated.title), dated.arxiv)):
                seen.setdefault(name, []).append(dated)
        elif _same(first, dated):
            matched.again.append((dated, first))
        else:
            matched.broken.append(_broken(draft, f"it is the paper of line {first.line} with other facts"))
    return matched


def _first(seen: dict[str, list[Draft]], draft: Draft) -> Draft | None:
    """Return the earlier draft of the same paper, if there is one."""
    same = [*seen.get(draft.arxiv, ()), *seen.get(normalised(draft.title), ())]
    return next((one for one in same if not contradict(one.arxiv, draft.arxiv)), None)


def _same(one: Draft, other: Draft) -> bool:
    return normalised(one.title) == normalised(other.title) and replace(one, line=0, title="") == replace(
        other, line=0, title=""
    )


def _broken(draft: Draft, problem: str) -> Broken:
    """Return a draft as a block that is not stored, with all its facts."""
    facts = (draft.title, ", ".join(draft.names), draft.date, draft.arxiv, draft.link, draft.abstract)
    return Broken(draft.line, problem, "\n\n".join(filter(None, facts)))


def _dated(draft: Draft, year: int) -> Draft | None:
    """Give a day its year; None where that year has no such day."""
    if not draft.yearless:
        return draft
    try:
        date(year, int(draft.date[:2]), int(draft.date[3:]))
    except ValueError:
        return None
    return replace(draft, date=f"{year}-{draft.date}", yearless=False)


def _store(shelf: Shelf, matched: Matched, source: str) -> Imported:
    """Store the papers of one file at once."""
    added = shelf.add([_entry(draft, source) for draft in matched.drafts])
    lines = [Line(draft.line, draft.title, key, "known") for draft, key in matched.known]
    stored: dict[int, Line] = {}
    for draft, (key, fate) in zip(matched.drafts, added.each, strict=True):
        state: State = "unchanged" if fate == "known" else fate
        stored[id(draft)] = Line(draft.line, draft.title, key, state, f"letheon new paper {key}")
    again = [replace(stored[id(first)], line=draft.line, state="unchanged") for draft, first in matched.again]
    lines = sorted([*lines, *stored.values(), *again], key=lambda one: one.line)
    return Imported(source, matched.year, tuple(lines), tuple(sorted(matched.broken, key=lambda one: one.line)))


def _entry(draft: Draft, source: str) -> Entry:
    return Entry(
        key=key_of(draft.title),
        title=draft.title,
        authors=draft.names,
        author_count=draft.authors or len(draft.names),
        date=draft.date,
        arxiv=draft.arxiv,
        url=draft.link or (f"https://arxiv.org/abs/{draft.arxiv}" if draft.arxiv else ""),
        abstract=draft.abstract,
        votes=draft.votes,
        source=source,
    )


def key_of(title: str) -> str:
    """Make a key of a title: the name before its colon, else its first words; letters, digits and dashes.

    `letheon new paper` takes every key that comes out.
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    name, colon, _ = plain.partition(":")
    words = re.findall(r"[a-z0-9]+", name if colon and len(name.split()) <= 3 else plain)
    key = "-".join(words[:5])[:40].strip("-")
    return key if re.match(r"[a-z]", key) else f"paper-{key}".strip("-")
