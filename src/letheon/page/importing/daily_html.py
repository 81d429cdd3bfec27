"""The saved HTML of a daily page of papers.

Such pages carry their papers as JSON in an attribute `data-props`. Where a page has none, its text is read as the text
of a daily page is, and its links give the arXiv identifiers.
"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from letheon.page.importing.daily_text import DOT, read_daily_text
from letheon.page.importing.dates import is_day
from letheon.page.importing.draft import Broken, Draft, Reading, arxiv_of, one_line

SILENT = frozenset({"script", "style", "template", "noscript", "svg", "head", "button"})
INLINE = frozenset(
    {
        *("a", "b", "i", "em", "strong", "span", "sub", "sup", "code", "small", "time", "mark", "u", "q", "wbr"),
        *("svg", "img", "path", "g"),
    }
)
VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})


class _Text(HTMLParser):
    """Collects the paragraphs of a page, each with the line of the file it began on and the address it leads to."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[tuple[int, str, str]] = []
        self.props: list[tuple[int, str]] = []
        self._text, self._line, self._link, self._href, self._silent = "", 1, "", "", 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "dailyPapers" in values.get("data-props", ""):
            self.props.append((self.getpos()[0], values["data-props"]))
        if tag in SILENT and tag not in VOID:
            self._silent += 1
        if tag == "a":
            self._href = values.get("href", "")
        if tag not in INLINE:
            self.flush()

    def handle_endtag(self, tag: str) -> None:
        if tag in SILENT:
            self._silent = max(0, self._silent - 1)
        if tag not in INLINE:
            self.flush()
        if tag == "a":
            self._href = ""

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        before, dot, behind = data.partition(DOT)
        if dot and not before.strip() and (not behind.strip() or len(behind) < 40):  # the line before the day
            self.flush()
            self.paragraphs.append((self.getpos()[0], DOT, ""))
            data = behind
        if data.strip() and not self._text.strip():
            self._line = self.getpos()[0]
        self._text += data
        self._link = self._link or (self._href if data.strip() else "")

    def flush(self) -> None:
        """End the present paragraph."""
        if self._text.strip():
            self.paragraphs.append((self._line, one_line(self._text), self._link))
        self._text = self._link = ""


def read_daily_html(text: str) -> Reading:
    """Read the saved HTML of a daily page; the line of an entry is that of the file."""
    parser = _Text()
    parser.feed(text)
    parser.close()
    parser.flush()
    if parser.props:
        return _from_props(parser.props)
    # one line per paragraph and an empty one behind it, so that the numbers of lines can be turned back
    body = "\n\n".join(paragraph for _, paragraph, _ in parser.paragraphs)
    links = {2 * i: link for i, (_, _, link) in enumerate(parser.paragraphs) if link}
    reading = read_daily_text(body, links)

    def line(number: int) -> int:
        return parser.paragraphs[min((number - 1) // 2, len(parser.paragraphs) - 1)][0]

    drafts = [Draft(**{**draft.__dict__, "line": line(draft.line)}) for draft in reading.drafts]
    broken = [Broken(line(one.line), one.problem, one.text) for one in reading.broken]
    return Reading(drafts, broken, reading.day, reading.year)


def _from_props(props: list[tuple[int, str]]) -> Reading:
    """Read the papers of the attribute `data-props`."""
    reading = Reading()
    for line, text in props:
        try:
            papers = json.loads(text)["dailyPapers"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reading.broken.append(Broken(line, f"data-props holds no list of papers ({error})", text))
            continue
        for item in papers if isinstance(papers, list) else [papers]:
            _add_paper(reading, line, item)
    return reading


def _add_paper(reading: Reading, line: int, item: Any) -> None:
    paper = item.get("paper", item) if isinstance(item, dict) else {}
    paper = paper if isinstance(paper, dict) else {}
    title, abstract = paper.get("title"), paper.get("summary")
    day, names, votes = paper.get("publishedAt") or item_date(item), paper.get("authors"), paper.get("upvotes")
    if not (isinstance(title, str) and title.strip() and isinstance(abstract, str) and isinstance(day, str)):
        problem = "it lacks a title, an abstract or a date"
        reading.broken.append(Broken(line, problem, json.dumps(item, ensure_ascii=False)))
        return
    if not is_day(day[:10]):
        reading.broken.append(Broken(line, f"date {day[:30]!r} is no date", json.dumps(item, ensure_ascii=False)))
        return
    given = names if isinstance(names, list) else []
    people = [str(one.get("name", "")) if isinstance(one, dict) else str(one) for one in given]
    reading.drafts.append(
        Draft(
            line=line,
            title=one_line(title),
            abstract=one_line(abstract),
            authors=len(people) or None,
            names=tuple(one_line(name) for name in people),
            date=day[:10],
            votes=votes if isinstance(votes, int) and not isinstance(votes, bool) and 0 <= votes < 10**6 else None,
            arxiv=arxiv_of(str(paper.get("id", ""))),
        )
    )


def item_date(item: Any) -> Any:
    """Return the date that stands beside the paper rather than in it."""
    return item.get("publishedAt") if isinstance(item, dict) else None
