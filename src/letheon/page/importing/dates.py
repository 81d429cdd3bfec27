"""Days as a daily page writes them: `Feb 25`, `Aug 28, 2025`, and with a number behind: `Sep 1, 2023 1`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import date

NUMBER = r"\d{1,3},\d{3}|\d{1,6}"  # of authors or votes
_DAY = re.compile(
    r"(?:published on\s+)?(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?"
    r"(?P<month>[a-z]{3,9})\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?"
    r"(?:,\s*(?P<year>\d{4})|\s+(?P<bare>(?:19|20)\d\d))?(?:\s+(?P<votes>" + NUMBER + r"))?",
    re.IGNORECASE,
)
_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)


def month_number(name: str) -> int | None:
    """Return 1 to 12 for the name of a month or a beginning of it from three letters on; None for other words."""
    known = name.lower().rstrip(".")
    return next((i for i, full in enumerate(_NAMES, 1) if len(known) >= 3 and (full + "t").startswith(known[:9])), None)


def is_day(text: str) -> bool:
    """Return whether a text is a day as `2025-08-28`, and the calendar has it."""
    try:
        return re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is not None and date.fromisoformat(text).year > 0
    except ValueError:
        return False


def read_day(line: str) -> tuple[str, int | None, int | None] | None:
    """Read a line that is a day.

    Returns:
        `MM-DD`, the year where it is written, and the number behind it where there is one; None for another line
        or a day that no calendar has.
    """
    match = _DAY.fullmatch(line.strip())
    month = month_number(match["month"]) if match else None
    if not match or month is None:
        return None
    year = match["year"] or match["bare"]
    try:
        date(int(year) if year else 2024, month, int(match["day"]))  # 2024 has a 29th of February
    except ValueError:
        return None
    votes = match["votes"]
    return (
        f"{month:02}-{int(match['day']):02}",
        int(year) if year else None,
        int(votes.replace(",", "")) if votes else None,
    )


def page_year(
    day: str, written: int | None, months: Iterable[tuple[str, str]], today: date, given: int | None = None
) -> int:
    """Decide which year the days without a year have.

    The year that the reader gives comes first, then the one in the page's head; then the one that most known papers
    agree on; then the latest year in which the page's own day is not in the future.

    Args:
        day: the page's own day, `MM-DD`, or an empty text.
        written: the year in the page's head.
        months: per known paper whose day has no year, that day (`MM-DD`) and the catalogue's date (`YYYY-MM`).
        today: the day on which the file was saved or is read.
        given: the year that the reader gives.
    """
    if given or written:
        return given or written or today.year
    votes = Counter(int(known[:4]) for shown, known in months if len(known) >= 7 and known[5:7] == shown[:2])
    if votes:
        return votes.most_common(1)[0][0]
    return today.year - (day > today.strftime("%m-%d"))
