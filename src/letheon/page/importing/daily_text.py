"""The text of a daily page of papers, as a browser copies it.

A head (a call to subscribe, the page's title, its own day), then entries: the title, the abstract, a line with the
number of authors or an organisation, a line `·`, and the day, perhaps with a number of votes. The `·` before a day is
what ends an entry; a line of an abstract that merely looks like a day ends nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from letheon.page.importing.dates import NUMBER, read_day
from letheon.page.importing.draft import Broken, Draft, Reading, arxiv_of, one_line

DOT = "·"
DOTS = ("∙", "⋅", "‧", "・")
AUTHORS = re.compile(rf"[•·*◦‣-]?\s*({NUMBER})\s+authors?", re.IGNORECASE)
BY = re.compile(r"by ?AK\b")  # who makes the page, below its title
# What some pages show above a title: votes (or the comments on the entry before: it cannot be told), who sent it in.
ABOVE = re.compile(rf"-|(?:upvotes?\s*)?(?:{NUMBER})?|submitted by\b.*", re.IGNORECASE)
LONG = 200  # characters; no title of a paper is longer, hardly an abstract shorter
ENDS = (".", "!", "?", ":", ";", ",")
# What such pages end with: words of which none is the beginning of another, so that there is one way to match a line.
FOOTER = re.compile(
    r"(?:(?:previous|next|[\d.…]|system theme|company|tos|privacy|about|careers|website|models|datasets|spaces|pricing"
    r"|docs)\s*)*(?:©.{0,80})?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Paragraph:
    """Lines between two empty lines: the number of the first and the last, and the text on one line."""

    first: int
    last: int
    text: str


@dataclass(frozen=True)
class End:
    """The end of an entry: the number of the line `·`, that of the last line, and the day's line."""

    dot: int
    last: int
    day: str


def read_daily_text(text: str, links: dict[int, str] | None = None) -> Reading:
    """Read the text of a daily page.

    Args:
        text: the page's text.
        links: number of a line -> the address that its text leads to; where it holds an arXiv id, the entry gets it.

    Returns:
        every entry; what lies between two ends and is no entry is in `broken`, with its text.
    """
    lines = [_clean(line) for line in text.split("\n")]
    day, start = _head(lines)
    begun = day is not None
    reading = Reading(day=day[0] if day else "", year=day[1] if day else None)
    for end in _ends(lines, start):
        paragraphs = _paragraphs(lines, start, end.dot)
        paragraphs = paragraphs if begun else _without_head(paragraphs)
        while len(paragraphs) > 2 and (paragraphs[0].text == DOT or read_day(paragraphs[0].text)):
            _add_broken(reading, lines, paragraphs[0].first, paragraphs[0].last, "a day or '·' with no entry before it")
            paragraphs = paragraphs[1:]
        blocks = _split(_first_line_apart(paragraphs, lines))
        begun = True
        for block in blocks[:-1]:
            _add_broken(reading, lines, block[0].first, block[-1].last, "it has no line '·' and no day")
        if blocks:
            _add(reading, lines, blocks[-1], end, links or {})
        else:
            _add_broken(reading, lines, end.dot, end.last, "a day with no entry before it")
        start = end.last + 1
    stop = len(lines)
    while stop > start and (not lines[stop - 1] or FOOTER.fullmatch(lines[stop - 1])):
        stop -= 1
    rest = _paragraphs(lines, start, stop)
    if rest:
        _add_broken(reading, lines, rest[0].first, rest[-1].last, "it ends before its line '·' and its day")
    return reading


def _clean(line: str) -> str:
    """Strip a line; the dots that look like `·` become one."""
    line = line.replace("\u00a0", " ").strip(" \t\r\ufeff")
    return DOT + line[1:] if line[:1] in DOTS else line


def _without_head(paragraphs: list[Paragraph]) -> list[Paragraph]:
    """Drop what stands before the title of the first entry, where the head has no day that would end it."""
    first = next((i for i, one in enumerate(paragraphs) if len(one.text) >= LONG), 0)
    return paragraphs[max(0, first - 1) :]


def _first_line_apart(paragraphs: list[Paragraph], lines: list[str]) -> list[Paragraph]:
    """Take the title apart from the abstract where no empty line stands between them."""
    if not paragraphs or (len(paragraphs) > 1 and not AUTHORS.fullmatch(paragraphs[1].text)):
        return paragraphs
    first, last = paragraphs[0].first, paragraphs[0].last
    if first == last or len(lines[first]) >= LONG or len(lines[first + 1]) < LONG:
        return paragraphs
    abstract = one_line(" ".join(lines[first + 1 : last + 1]))
    return [Paragraph(first, first, lines[first]), Paragraph(first + 1, last, abstract), *paragraphs[1:]]


def _head(lines: list[str]) -> tuple[tuple[str, int | None, int | None] | None, int]:
    """Return the page's own day and the index of the first line after the head."""
    first = next((i for i, line in enumerate(lines) if len(line) > LONG or line == DOT), len(lines))
    for i, line in enumerate(lines[:first]):
        opens = i == 0 or not lines[i - 1] or BY.match(lines[i - 1]) is not None
        day = read_day(line) if opens and not "".join(lines[i + 1 : i + 2]) else None
        if day:
            return day, i + 1
    title = next((i for i, line in enumerate(lines[:first]) if line.lower() in ("daily papers", "trending papers")), -1)
    while 0 <= title < first - 1 and (not lines[title + 1] or BY.match(lines[title + 1])):
        title += 1
    return None, title + 1


def _ends(lines: list[str], start: int) -> list[End]:
    """List the ends of entries: a line `·` before a day, a day right after the authors, a line `·` after them alone."""
    ends = []
    for i in range(start, len(lines)):
        if i and AUTHORS.fullmatch(lines[i - 1]) and read_day(lines[i]):  # the line `·` is missing
            ends.append(End(i, i, lines[i]))
        if not lines[i].startswith(DOT):
            continue
        behind = lines[i].removeprefix(DOT).strip()
        last = i if behind else next((j for j in range(i + 1, min(i + 4, len(lines))) if lines[j]), i)
        shown = behind or (lines[last] if last > i else "")
        if read_day(shown):
            votes = lines[last + 1] if last + 1 < len(lines) else ""
            more = re.fullmatch(NUMBER, votes) and not shown.rstrip().endswith(votes)
            ends.append(End(i, last + 1 if more else last, f"{shown} {votes}" if more else shown))
        elif _authors_before(lines, i) and not behind:
            is_day = len(shown) <= 40 and _stands_alone(lines, i, last)
            ends.append(End(i, last if is_day else i, shown if is_day else ""))
    return ends


def _stands_alone(lines: list[str], dot: int, place: int) -> bool:
    """Whether a line behind a line `·` belongs to it, and is not the title before an abstract."""
    if place == dot + 1:
        return not "".join(lines[place + 1 : place + 2])
    return len(next(filter(None, lines[place + 1 :]), "")) < LONG


def _authors_before(lines: list[str], place: int) -> bool:
    before = next((line for line in reversed(lines[max(0, place - 3) : place]) if line), "")
    return AUTHORS.fullmatch(before) is not None


def _paragraphs(lines: list[str], start: int, stop: int) -> list[Paragraph]:
    """Group the lines from index `start` to `stop` at empty lines; a line with a number of authors stands alone."""
    groups: list[list[int]] = []
    fresh = True
    for i in range(start, stop):
        alone = AUTHORS.fullmatch(lines[i]) is not None
        if not lines[i]:
            fresh = True
            continue
        if fresh or alone:
            groups.append([i])
        else:
            groups[-1].append(i)
        fresh = alone
    return [Paragraph(group[0], group[-1], one_line(" ".join(lines[i] for i in group))) for group in groups]


def _split(paragraphs: list[Paragraph]) -> list[list[Paragraph]]:
    """Split what stands before an end into entries: all but the last have lost their day."""
    blocks: list[list[Paragraph]] = [[]]
    for i, one in enumerate(paragraphs):
        long_before = len(blocks[-1]) >= 2 and len(blocks[-1][-1].text) >= LONG
        long_after = i + 1 < len(paragraphs) and len(paragraphs[i + 1].text) >= LONG
        if long_before and long_after and _like_title(one.text):
            blocks.append([])
        blocks[-1].append(one)
        if AUTHORS.fullmatch(one.text) and i + 1 < len(paragraphs):
            blocks.append([])
    return [block for block in blocks if block]


def _like_title(text: str) -> bool:
    is_day = read_day(text.removeprefix(DOT)) is not None
    return len(text) < LONG and not text.endswith(ENDS[:1] + ENDS[3:]) and not is_day and len(text.split()) > 1


def _add(reading: Reading, lines: list[str], block: list[Paragraph], end: End, links: dict[int, str]) -> None:
    """Add the entry that a block is, or list it as broken."""
    authors = AUTHORS.fullmatch(block[-1].text)
    content = block[:-1] if authors or _is_organisation(block, end) else block
    content = _from_title(content)
    day = read_day(end.day)
    problem = ""
    if day is None:
        problem = f"{end.day[:40]!r} is no day" if end.day else "no day follows its line '·'"
    elif day[1] is None and day[0] == "02-29" and reading.year is not None and reading.year % 4:
        problem = f"{reading.year} has no 29th of February"
    elif not content or len(content) == 1:
        problem = "it has no title" if content and len(content[0].text) > LONG else "it has no abstract"
    elif len(content[0].text) > 2 * LONG:
        problem = "it has no title"
    if problem or day is None:
        _add_broken(reading, lines, block[0].first, end.last, problem)
        return
    addresses = (address for line, address in links.items() if block[0].first <= line <= end.last)
    reading.drafts.append(
        Draft(
            line=content[0].first + 1,
            title=content[0].text,
            abstract="\n\n".join(one.text for one in content[1:]),
            authors=int(authors[1].replace(",", "")) if authors else None,
            date=f"{day[1]}-{day[0]}" if day[1] else day[0],
            yearless=day[1] is None,
            votes=day[2],
            arxiv=next(filter(None, map(arxiv_of, addresses)), ""),
        )
    )


def _from_title(content: list[Paragraph]) -> list[Paragraph]:
    """Drop what stands above the title."""
    while len(content) > 2 and len(content[1].text) < LONG and not content[1].text.endswith("."):
        if not ABOVE.fullmatch(content[0].text):
            break
        content = content[1:]
    return content


def _is_organisation(block: list[Paragraph], end: End) -> bool:
    """Whether the last paragraph names the authors' organisation: a few words, no sentence, before the line `·`."""
    text, adjacent = block[-1].text, block[-1].last == end.dot - 1
    short = len(text) < 80 and (adjacent or len(text.split()) <= 6)
    return len(block) >= 3 and short and not text.endswith(ENDS) and "://" not in text and read_day(text) is None


def _add_broken(reading: Reading, lines: list[str], first: int, last: int, problem: str) -> None:
    reading.broken.append(Broken(first + 1, problem, "\n".join(lines[first : last + 1]).strip()))
