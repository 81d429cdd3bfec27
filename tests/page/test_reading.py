"""Readers of the formats: whole entries are read exactly, broken ones are listed with their line."""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.core.errors import InputError, LetheonError
from letheon.page.importing.arxiv_ids import fetch_arxiv, is_arxiv_id
from letheon.page.importing.bibtex import plain_latex
from letheon.page.importing.daily_text import read_daily_text
from letheon.page.importing.dates import page_year, read_day
from letheon.page.importing.draft import normalised
from letheon.page.importing.files import parse_papers, read_papers
from letheon.page.importing.matching import Known
from letheon.papers.catalogue import paper, papers

HEAD = """new

Get trending papers in your email inbox!

Subscribe

Daily Papers

byAK and the research community

May 7
"""
BODY = "Models forget what they learned; we measure how much of it, and by which part of the network. " * 4 + "End."
FOOTER = "\nPrevious\n1\n2\n...\n52\nNext\n\nSystem theme\nCompany\n© Some Company\nTOS\nPrivacy\nAbout\n"


def entry(title: str, abstract: str = BODY, authors: str = "  • 3 authors", day: str = "Aug 28, 2025") -> str:
    """An entry as a browser copies it."""
    return f"\n{title}\n\n{abstract}\n\n{authors}\n·\n{day}\n"


def test_a_page_is_read_completely() -> None:
    text = HEAD + "".join(
        [
            entry('On "Sinks": What Are They, and Why?', day="Feb 25"),
            entry("Old: a Paper", day="Sep 1, 2023 12", authors="  • 1 author"),
            entry("Of a Company", authors="apple Apple", day="Mar 11, 2025 1"),
            f"\nBy Nobody\n\n{BODY}\n\n·\nDec 3\n",
        ]
    )
    reading = read_daily_text(text + FOOTER)
    assert not reading.broken
    assert (reading.day, reading.year) == ("05-07", None)
    assert [(one.title, one.authors, one.date, one.yearless, one.votes) for one in reading.drafts] == [
        ('On "Sinks": What Are They, and Why?', 3, "02-25", True, None),
        ("Old: a Paper", 1, "2023-09-01", False, 12),
        ("Of a Company", None, "2025-03-11", False, 1),
        ("By Nobody", None, "12-03", True, None),
    ]
    assert {one.abstract for one in reading.drafts} == {BODY.strip()}
    assert text.split("\n")[reading.drafts[1].line - 1] == "Old: a Paper"


@pytest.mark.parametrize(
    "inside", ["May 7", "Aug 28, 2025", "Sep 1, 2023 1", "\n\nMay 7\n\n", "• and a point", "· a dot"]
)
def test_a_line_in_an_abstract_that_looks_like_a_day_ends_nothing(inside: str) -> None:
    reading = read_daily_text(HEAD + entry("One Title", f"{BODY}\n{inside}\n{BODY}") + entry("Two of Them"))
    assert not reading.broken
    assert [one.title for one in reading.drafts] == ["One Title", "Two of Them"]
    assert inside.strip() in reading.drafts[0].abstract


def test_a_page_without_head_and_with_windows_lines_is_read() -> None:
    reading = parse_papers(
        ("\ufeff" + entry("A: First") + entry("B - Second")).replace("\n", "\r\n").replace("\r\n", "\n"), "x"
    )
    assert [one.title for one in reading.drafts] == ["A: First", "B - Second"]
    assert reading.day == ""


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (entry("No Day Here", day="").replace("·\n\n", ""), "no line '·'"),
        (entry("A Day of No Calendar", day="Feb 30, 2025"), "'Feb 30, 2025' is no day"),
        (entry("A Day in Words", day="some day"), "'some day' is no day"),
        ("\nOnly a Title\n\n  • 3 authors\n·\nFeb 3\n", "no abstract"),
        (f"\n{BODY}\n\n  • 3 authors\n·\nFeb 3\n", "no title"),
        (f"\nNeither Authors nor Day\n\n{BODY}\n", "no line '·'"),
    ],
)
def test_a_broken_entry_is_listed_and_its_neighbours_are_whole(block: str, problem: str) -> None:
    text = HEAD + entry("The First of Three") + block + entry("The Last of Three")
    reading = read_daily_text(text)
    assert [one.title for one in reading.drafts] == ["The First of Three", "The Last of Three"]
    (broken,) = reading.broken
    assert problem in broken.problem
    assert text.split("\n")[broken.line - 1] == broken.text.split("\n")[0]
    assert block.split() == broken.text.split()


def test_a_page_cut_in_an_entry_lists_it() -> None:
    reading = read_daily_text(HEAD + entry("Whole One") + f"\nCut Off\n\n{BODY[:250]}")
    assert [one.title for one in reading.drafts] == ["Whole One"]
    assert reading.broken[0].text.startswith("Cut Off")


@pytest.mark.parametrize("head", ["May 7 - May 13", "Week 19", "", "Thu, May 7", "Thursday, May 7, 2025", "7 May"])
def test_other_heads_leave_the_first_entry_whole(head: str) -> None:
    reading = read_daily_text(HEAD.replace("May 7", head) + entry("The First One") + entry("The Second One"))
    assert [one.title for one in reading.drafts] == ["The First One", "The Second One"]
    assert not reading.broken


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("·\n", ""),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("Aug 28, 2025\n", "Aug 28, 2025\nAug 28, 2025\n", 1),
        lambda text: text.replace("·\nAug 28, 2025", "Aug 28, 2025\n·", 1),
        lambda text: text.replace("•", "◦").replace("  ", "\u00a0\u00a0"),
        lambda text: text.replace("·", "⋅"),
    ],
)
def test_small_damage_leaves_the_entries_whole(change: Callable[[str], str]) -> None:
    reading = read_daily_text(HEAD + change(entry("The First One") + entry("The Second One")))
    assert [(one.title, one.abstract, one.authors, one.date) for one in reading.drafts] == [
        (title, BODY, 3, "2025-08-28") for title in ("The First One", "The Second One")
    ]


def test_the_end_of_an_abstract_is_no_organisation() -> None:
    link = "Code: https://example.org/code"
    reading = read_daily_text(
        HEAD + f"\nA Title\n\n{BODY}\n\n{link}\n\n·\nMay 1\n" + entry("By Two", authors="a-b A B")
    )
    assert [one.abstract for one in reading.drafts] == [f"{BODY}\n\n{link}", BODY]


WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], exclude_characters="·"), min_size=3, max_size=30
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(WORDS, st.integers(1, 12), st.integers(1, 28), st.booleans()), min_size=1, max_size=5))
def test_any_titles_come_back(rows: list[tuple[str, int, int, bool]]) -> None:
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    titles = [f"T {word}" for word, *_ in rows]
    days = [f"{months[m - 1]} {d}" + (", 2024 3" if y else "") for _, m, d, y in rows]
    text = HEAD + "".join(entry(title, day=day) for title, day in zip(titles, days, strict=True))
    reading = read_daily_text(text)
    assert [one.title for one in reading.drafts] == titles
    assert [one.date[-5:] for one in reading.drafts] == [f"{m:02}-{d:02}" for _, m, d, _ in rows]


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=400))
def test_no_text_breaks_a_reader(text: str) -> None:
    for sample in (text, HEAD + text, f"<html>{text}", f"@article{{a,{text}", f"<feed><entry>{text}</entry>"):
        with suppress(InputError):
            parse_papers(sample, "sample")


@pytest.mark.parametrize(
    ("line", "day"),
    [
        ("Feb 25", ("02-25", None, None)),
        ("Sept 1, 2023 1", ("09-01", 2023, 1)),
        ("December 31 2,104", ("12-31", None, 2104)),
        ("Aug 28 2025", ("08-28", 2025, None)),
        ("Published on Mar 3", ("03-03", None, None)),
        ("Maybe 7", None),
        ("Apr 31", None),
        ("Feb 29, 2025", None),
        ("Feb 29", ("02-29", None, None)),
        ("GPT 4", None),
    ],
)
def test_days(line: str, day: tuple[str, int | None, int | None] | None) -> None:
    assert read_day(line) == day


def test_the_year_of_a_page() -> None:
    today = date(2027, 8, 1)
    assert page_year("05-07", None, [], today) == 2027
    assert page_year("11-07", None, [], today) == 2026, "its day is not in the future"
    assert page_year("05-07", None, [("02-25", "2026-02"), ("04-06", "2026-04"), ("03-01", "2019-07")], today) == 2026
    assert page_year("05-07", 2024, [("02-25", "2026-02")], today) == 2024
    assert page_year("05-07", 2024, [], today, given=2023) == 2023


def test_html_as_text_and_links() -> None:
    title = 'Attention & <Sinks>: "A Study"'
    article = (
        '<article><h3><a href="/papers/2602.23400">{}</a></h3><p><a href="/papers/2602.23400">{}</a></p>'
        "<ul><li>7 authors</li></ul><div><span>·</span><time>Feb 25</time> <span>4</span></div></article>"
    )
    page = (
        "<!DOCTYPE html><html><head><title>Daily Papers</title><style>p{}</style></head><body><h1>Daily Papers</h1>\n"
        "<p>May 7</p><script>var x = '· Feb 1'</script>\n"
        + article.format(html.escape(title), html.escape(BODY))
        + "\n"
        + article.replace("2602.23400", "2509.05316").format("Second <em>of</em> Two", html.escape(BODY))
        + "</body></html>"
    )
    reading = parse_papers(page, "page.html")
    assert not reading.broken
    assert [(one.title, one.authors, one.date, one.votes, one.arxiv, one.line) for one in reading.drafts] == [
        (title, 7, "02-25", 4, "2602.23400", 3),
        ("Second of Two", 7, "02-25", 4, "2509.05316", 4),
    ]
    assert reading.drafts[0].abstract == BODY.strip()


def test_html_that_carries_its_papers() -> None:
    whole = {
        "paper": {"id": "2602.23400", "title": "A\n title", "summary": BODY,
                  "authors": [{"name": "Ann"}, {"name": "Bo"}],
                  "upvotes": 9, "publishedAt": "2026-02-25T10:00:00.000Z"}
    }  # fmt: skip
    props = html.escape(json.dumps({"dailyPapers": [whole, {"paper": {"title": "no abstract"}}, 7]}))
    reading = parse_papers(f'<html><body><div data-props="{props}"></div></body></html>', "page.html")
    (draft,) = reading.drafts
    assert (draft.title, draft.authors, draft.date, draft.votes) == ("A title", 2, "2026-02-25", 9)
    assert draft.arxiv == "2602.23400"
    assert len(reading.broken) == 2


BIB = r"""% a comment
@string{venue = "Proceedings"}
@comment{nothing @here}
@article{one, title = {{U-CAN}: Utility \& {\'E}lan}, author = {Wu, Zezheng and Rui Wang and M{\"u}ller, J.},
  year = 2026, month = feb, journal = {arXiv preprint arXiv:2602.23400}, abstract = "Ten \% of {all}."}
@inproceedings{two, title = "A " # {B} # " C", author = "Ann Lee and others", date = {2025-08-28}, booktitle = venue, url={https://example.org/x}}
@misc{three, title = {No year}}
@misc{four, title = {Not closed, year = 2020
@misc{five, title = {Last}, year = {2020}}
"""


def test_bibtex() -> None:
    reading = parse_papers(BIB, "refs.bib")
    one, two, last = reading.drafts
    assert (one.title, one.authors, one.date, one.arxiv, one.line) == (
        "U-CAN: Utility & Élan",
        3,
        "2026-02",
        "2602.23400",
        4,
    )
    assert one.names == ("Zezheng Wu", "Rui Wang", "J. Müller")
    assert one.abstract == "Ten % of all."
    assert (two.title, two.authors, two.names, two.date, two.link) == (
        "A B C", None, ("Ann Lee",), "2025-08-28", "https://example.org/x")  # fmt: skip
    assert last.title == "Last"
    assert [(broken.line, broken.problem) for broken in reading.broken] == [
        (7, "it has no year"),
        (8, "a brace or quote is not closed"),
    ]
    assert plain_latex(r"{\L}{\o}d\'{z} \v{C} Stra{\ss}e") == "Łødź Č Straße"


ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom">
<title>results</title>
<entry><id>http://arxiv.org/abs/2509.05316v2</id><title>Standard vs.
  Modular &amp; more</title><summary> Ten
words. </summary><published>2025-08-28T01:02:03Z</published>
<author><name>Ann Lee</name></author><author><name>Bo</name></author>
<arxiv:comment>x</arxiv:comment></entry>
<entry><id>http://arxiv.org/abs/2401.00001v1</id><title>No <b>date</title></entry>
<entry><id>http://arxiv.org/abs/2401.00002v1</id><title>Last</title><summary>s</summary><published>2024-01-01T00:00:00Z</published></entry>
</feed>"""


def test_atom() -> None:
    reading = parse_papers(ATOM, "feed.xml")
    first, last = reading.drafts
    assert (first.title, first.abstract) == ("Standard vs. Modular & more", "Ten words.")
    assert (first.authors, first.date, first.arxiv, first.line) == (2, "2025-08-28", "2509.05316", 4)
    assert first.link == "https://arxiv.org/abs/2509.05316v2"
    assert (last.title, last.authors) == ("Last", None)
    assert [broken.line for broken in reading.broken] == [9]
    bomb = ATOM.replace("<feed", '<!DOCTYPE a [<!ENTITY a "aaaa">]><feed', 1)
    assert "document type" in parse_papers(bomb, "feed.xml").broken[0].problem


@contextmanager
def arxiv(answer: str, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """A local server in place of arXiv; gives its address and the paths that were asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/query", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_arxiv_ids_are_fetched() -> None:
    answer = ATOM[: ATOM.index("<entry><id>http://arxiv.org/abs/2401.00001")] + "</feed>"
    with arxiv(answer) as (address, asked):
        reading = fetch_arxiv(["arXiv:2509.05316v3", "2401.99999"], address)
    assert asked == ["/api/query?id_list=2509.05316%2C2401.99999&max_results=2"]
    assert [one.arxiv for one in reading.drafts] == ["2509.05316"]
    assert [(one.text, one.problem) for one in reading.broken] == [("2401.99999", "arXiv has no such paper")]
    with arxiv("", 503) as (address, _), pytest.raises(LetheonError, match="503"):
        fetch_arxiv(["2401.99999"], address)
    with pytest.raises(LetheonError, match="could not be reached") as caught:
        fetch_arxiv(["2401.99999"], "http://127.0.0.1:9/api/query")
    assert "import a file" in caught.value.remedy
    with pytest.raises(InputError, match="not https"):
        fetch_arxiv(["2401.99999"], "http://example.org/")
    assert [is_arxiv_id(text) for text in ("2401.99999v2", "arXiv:hep-th/9901001", "page.txt", "12.34")] == [
        True,
        True,
        False,
        False,
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be read"):
        read_papers(tmp_path / "nothing")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_papers(tmp_path / "latin")
    (tmp_path / "empty").write_text("")
    with pytest.raises(InputError, match="holds no papers"):
        read_papers(tmp_path / "empty")


def test_papers_are_matched_to_the_catalogue() -> None:
    known = Known(papers())
    wanted = paper("gu")
    text = entry("Geometric-Disentangelment Unlearning") + entry("Geometric Unlearning of Everything Else")
    slip, other = read_daily_text(text).drafts
    assert known.match(slip) == wanted, "two letters are exchanged"
    assert known.match(other) is None
    for one in papers():
        assert known.match(read_daily_text(entry(f" {one.title.upper()} ")).drafts[0]) == one
    by_id = parse_papers(ATOM, "x").drafts[0]
    assert known.match(by_id) == paper("melu")
    assert normalised(r"{\em K}-FADE: Überblick") == "k fade uberblick"
