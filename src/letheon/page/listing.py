"""The list of papers: filters, order, counts, and groups by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from letheon.page.entries import Entry
from letheon.page.shelf import Mark

PER_PAGE = 40
QUICK_SECONDS = 60.0
UNDATED = "Date unknown"
VERDICTS = ("holds", "fails", "inconclusive")
BADGES = ("reproduced", "faithful", "reconstructed", "runs", "untested", "planned")

SORTS: dict[str, tuple[str, Callable[[Entry], Any], bool]] = {  # name -> words, key, whether largest first
    "newest": ("newest first", lambda entry: entry.date or "0", True),
    "oldest": ("oldest first", lambda entry: entry.date or "9", False),
    "title": ("title", lambda entry: entry.title.casefold(), False),
    "quickest": ("quickest to run", lambda entry: entry.seconds if entry.seconds is not None else 1e12, False),
}


@dataclass(frozen=True)
class Filters:
    """What the reader chose; an empty value chooses everything.

    Attributes:
        quick: only papers whose recorded run took less than a minute.
        mine: `starred`, `later` or `noted`: only papers that the reader marked so.
    """

    wing: str = ""
    badge: str = ""
    verdict: str = ""
    year: str = ""
    quick: str = ""
    mine: str = ""
    sort: str = "newest"
    page: int = 1

    def allows(self, entry: Entry, mark: Mark) -> bool:
        """Whether a paper is shown."""
        return (
            self.wing in ("", entry.wing)
            and self.badge in ("", entry.badge)
            and self.verdict in ("", entry.standing or "none")
            and self.year in ("", entry.date[:4])
            and (not self.quick or is_quick(entry))
            and (not self.mine or _marked(mark, self.mine))
        )

    def address(self, **changes: Any) -> str:
        """The query string of these filters with some of them changed."""
        chosen = {**self.__dict__, "page": 1, **changes}
        default = Filters().__dict__
        return "?" + urlencode({name: value for name, value in chosen.items() if value != default[name]})

    @property
    def narrowed(self) -> bool:
        """Whether any filter hides papers."""
        return replace(self, sort="newest", page=1) != Filters()


@dataclass(frozen=True)
class Listing:
    """One page of the list.

    Attributes:
        groups: (day or month as text, its papers); a single group without a heading where the order is not by date.
        total: number of papers that the filters allow.
        pages: number of pages.
        counts: filter -> value -> number of papers that it would show beside the other filters.
    """

    groups: list[tuple[str, list[Entry]]]
    total: int
    pages: int
    counts: dict[str, dict[str, int]]


def is_quick(entry: Entry) -> bool:
    """Whether the recorded run of a paper took less than a minute."""
    return entry.seconds is not None and entry.seconds < QUICK_SECONDS


def list_entries(
    entries: Sequence[Entry], filters: Filters, marks: Mapping[str, Mark], per_page: int = PER_PAGE
) -> Listing:
    """The page of the list that the filters ask for."""
    shown = [entry for entry in entries if filters.allows(entry, marks.get(entry.key, Mark()))]
    sort = filters.sort if filters.sort in SORTS else "newest"
    _, key, reverse = SORTS[sort]
    shown.sort(key=key, reverse=reverse)
    pages = max(1, -(-len(shown) // per_page))
    start = (min(max(filters.page, 1), pages) - 1) * per_page
    part = shown[start : start + per_page]
    by_date = sort in ("newest", "oldest")
    groups = [(day, list(some)) for day, some in groupby(part, key=lambda entry: day_of(entry.date) if by_date else "")]
    return Listing(groups, len(shown), pages, _counts(entries, filters, marks))


def _counts(entries: Sequence[Entry], filters: Filters, marks: Mapping[str, Mark]) -> dict[str, dict[str, int]]:
    values: dict[str, Callable[[Entry], str]] = {
        "wing": lambda entry: entry.wing,
        "badge": lambda entry: entry.badge,
        "verdict": lambda entry: entry.standing or "none",
        "year": lambda entry: entry.date[:4],
        "quick": lambda entry: "1" if is_quick(entry) else "",
    }
    counts = {}
    for name, value in values.items():
        without: dict[str, Any] = {name: ""}
        others = replace(filters, **without)
        allowed = (entry for entry in entries if others.allows(entry, marks.get(entry.key, Mark())))
        counted = Counter(value(entry) for entry in allowed)
        counts[name] = {value: counted[value] for value in sorted(counted, reverse=name == "year") if value}
    return counts


def day_of(iso: str) -> str:
    """A date as a heading: `3 November 2025`, or `November 2025` where no day is known."""
    try:
        if len(iso) == 7:
            return f"{date.fromisoformat(f'{iso}-01'):%B %Y}"
        day = date.fromisoformat(iso)
    except ValueError:
        return UNDATED
    return f"{day.day} {day:%B %Y}"


def _marked(mark: Mark, how: str) -> bool:
    return {"starred": mark.starred, "later": mark.later, "noted": bool(mark.note)}.get(how, False)
