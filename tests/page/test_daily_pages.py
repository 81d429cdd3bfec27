"""Whole daily pages: the given one where it is there, and two more of our own, as text and as a browser saves them."""

from __future__ import annotations

import html
import os
import re
from datetime import date
from pathlib import Path

import pytest

from letheon.page.importing.files import parse_papers, read_papers
from letheon.page.importing.importer import Imported, import_reading
from letheon.page.shelf import Shelf
from letheon.papers.catalogue import papers

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "daily_papers"
GIVEN = DATA / "page_part.txt"

SAID = (
    "We look at {} and find what others passed over, in three settings and on two continents. "
    "Accuracy rises by 12\\% while ell_2 norms stay, cf. Sec. 3; the code is public."
)
# title, what the abstract is about, authors' line, day's line -> number of authors, date, votes
Row = tuple[str, str, str, str, int | None, str, int | None]
IN_PARTS = "memory\n\nDec 24, 2022\n\nand of winters"
ENTRIES: list[Row] = [
    ("Forget-Me-Not: Of Things That Stay", IN_PARTS, "  • 4 authors", "Jan 2", 4, "2024-01-02", None),
    ('Is It "Learning"? A Reply to All 7', "critics", "  • 1 authors", "Dec 31, 2023 14", 1, "2023-12-31", 14),
    ("Über das naïve Vergessen", "Gedächtnis, 記憶", "  • 1,024 authors", "Nov 5, 2019", 1024, "2019-11-05", None),
    ("記憶の研究 🧠 (Part II)", "other letters", "  • 12 authors", "Feb 29, 2020 3", 12, "2020-02-29", 3),
    ("Sinks", "one word", "acme Acme Research", "Jan 3 1", None, "2024-01-03", 1),
    ("3D or Not 3D", "dimensions", "", "May 9, 2021", None, "2021-05-09", None),
    ("\u05d6\u05db\u05e8\u05d5\u05df \u202e(reversed)", "marks", "  • 2 authors", "Oct 10", 2, "2024-10-10", None),
]
ABOVE = ["-", "7", "1,204", "Upvote 3", "5", "12", "-"]  # votes that the HTML shows above titles
TORN = "A Torn Entry Without Its Day"
CALL = "Get trending papers in your email inbox!"


def text_page() -> str:
    """A daily page as text, with a torn entry in its middle."""
    head = f"new\n\n{CALL}\n\nSubscribe\n\nDaily Papers\n\nbyAK and the research community\n\nJan 3\n"
    blocks = [f"\n{title}\n\n{SAID.format(about)}\n\n{by}\n·\n{day}\n" for title, about, by, day, *_ in ENTRIES]
    blocks.insert(3, f"\n{TORN}\n\n{SAID.format('torn')}\n\n  • 3 authors\n·\nsoon\n")
    return head + "".join(blocks) + "\nPrevious\n1\n2\n3\n...\n40\nNext\n\nCompany\n© Some Company\nTOS\nPrivacy\n"


def article(title: str, said: str, by: str, day: str, above: str, link: str) -> str:
    """An entry as a browser saves it: a checkbox with the votes, links, pictures of authors, comments."""
    when, comments = re.fullmatch(r"(.*?\d{4}|\w+ \d+|soon)(?: (\d+))?", day).groups()  # type: ignore[union-attr]
    paragraphs = "</p><p>".join(map(html.escape, said.split("\n\n")))
    faces = '<li class="-mr-1" title="Ann"><img alt="" src="./page_files/a.jpeg"></li>' * 3
    names = f"<li>{html.escape(by.strip())}</li>" if by else ""
    talk = f' <a href="#community"><svg></svg> {comments}</a>' if comments else ""
    return f"""<article class="flex"><div><label><input type="checkbox" disabled><svg><path d="M1"></path></svg>
<div class="leading-none">{above}</div></label></div>
<div class="w-full"><h3><a class="line-clamp-3" href="{link}">{html.escape(title)}</a></h3>
<p>{paragraphs}</p>
<ul class="flex">{faces}{names}</ul>
<div class="mx-2">·</div><time datetime="x">{when}</time>{talk}</div></article>
"""


def html_page() -> str:
    """The same page as a browser saves it, with styles, scripts, a bar of links above and below."""
    articles = [
        article(title, SAID.format(about), by, day, above, f"https://pages.example/papers/24{i + 1:02}.0{i}123")
        for i, ((title, about, by, day, *_), above) in enumerate(zip(ENTRIES, ABOVE, strict=True))
    ]
    articles.insert(3, article(TORN, SAID.format("torn"), "3 authors", "soon", "", ""))
    return f"""<!DOCTYPE html>
<!-- saved from url=(0031)https://pages.example/papers?q=x -->
<html class=""><head><meta charset="UTF-8"><title>Daily Papers</title><style>p::after {{ content: "·" }}</style>
<script>window.__x = {{"dailyPapers": 1}}; // · Feb 1</script></head>
<body><header><nav><ul><li><a href="/">Models</a></li><li><a>Datasets</a></li></ul></nav></header>
<main><div>new</div><p>{CALL}</p><button>Subscribe</button>
<h1>Daily Papers</h1><h2>by<a href="/ak"><img>AK</a> and the research community</h2>
<div><a><svg></svg></a><div><time>Jan 3</time></div></div>
{"".join(articles)}<nav><ul><li><a>Previous</a></li><li><a>1</a></li><li><a>Next</a></li></ul></nav></main>
<footer><div>System theme</div><div>Company</div><a>TOS</a><a>Privacy</a></footer></body></html>
"""


PAGES = {"page.txt": text_page(), "page.html": html_page()}


@pytest.mark.parametrize("name", PAGES)
def test_every_entry_of_a_page_arrives_and_the_torn_one_is_listed(shelf: Shelf, name: str) -> None:
    text = PAGES[name]

    def imported() -> Imported:
        return import_reading(shelf, parse_papers(text, name), name, date(2024, 5, 5))

    done = imported()
    assert done.year == 2024
    assert [line.title for line in done.lines] == [title for title, *_ in ENTRIES]
    assert all(line.state == "new" for line in done.lines)
    for line, row in zip(done.lines, ENTRIES, strict=True):
        title, about, _, _, authors, day, votes = row
        stored = shelf.entry(line.key)
        assert stored is not None
        assert (stored.title, stored.abstract) == (title, SAID.format(about))
        assert (stored.author_count or None, stored.date) == (authors, day)
        assert stored.votes == votes, "a number above a title is no one's"
        assert title.split()[0] in html.unescape(text.split("\n")[line.line - 1]), "the line is the entry's"
    (torn,) = done.broken
    assert TORN in torn.text
    assert "'soon' is no day" in torn.problem
    assert torn.text.split("\n")[0] in text.split("\n")[torn.line - 1]
    before = [tuple(row) for row in shelf.rows("SELECT * FROM entries")]
    again = imported()
    assert {line.state for line in again.lines} == {"unchanged"}
    assert len(again.broken) == 1
    assert [tuple(row) for row in shelf.rows("SELECT * FROM entries")] == before


def test_a_number_may_be_a_title() -> None:
    page = f"Daily Papers\n\nJan 3\n\n1984\n\n{SAID}\n\n  • 2 authors\n·\nJan 2\n"
    (draft,) = parse_papers(page, "x").drafts
    assert (draft.title, draft.abstract, draft.votes) == ("1984", SAID, None)


def test_text_and_html_of_one_page_are_the_same_papers(shelf: Shelf) -> None:
    for name, text in PAGES.items():
        done = import_reading(shelf, parse_papers(text, name), name, date(2024, 5, 5))
    assert done.count("changed") == len(ENTRIES), "the HTML adds the arXiv ids"


@pytest.mark.skipif(not GIVEN.is_file(), reason=f"the given daily page is not at {GIVEN}: set LETHEON_DATA")
def test_the_given_page_is_imported_completely(shelf: Shelf) -> None:
    reading = read_papers(GIVEN)
    assert (len(reading.drafts), reading.broken, reading.day) == (24, [], "05-07")
    done = import_reading(shelf, reading, GIVEN.name, date(2026, 5, 8))
    assert (done.year, done.count("known"), len(done.lines)) == (2026, 24, 24)
    lines = GIVEN.read_text(encoding="utf-8").split("\n")
    months = {paper.key: paper.date for paper in papers()}
    for draft, line in zip(reading.drafts, done.lines, strict=True):
        assert lines[draft.line - 1].strip() == draft.title
        assert lines[draft.line + 1].strip() == draft.abstract
        written = " ".join(lines[draft.line + 2 : draft.line + 7])
        found = re.search(r"(\d+) authors", written)
        assert draft.authors == (int(found[1]) if found else None)
        assert f"{2026 if draft.yearless else draft.date[:4]}-{draft.date[-5:-3]}" == months[line.key]
