"""Importing onto a shelf: known papers are matched, others enter, and a second time changes nothing."""

from __future__ import annotations

import json
import re
import time
from datetime import date
from pathlib import Path

import pytest

from letheon.core.errors import InputError, LetheonError
from letheon.page.importing.atom import read_atom
from letheon.page.importing.bibtex import read_bibtex
from letheon.page.importing.daily_text import FOOTER, read_daily_text
from letheon.page.importing.files import parse_papers
from letheon.page.importing.importer import import_reading, import_sources, key_of
from letheon.page.shelf import Shelf
from letheon.papers.catalogue import paper
from tests.page.test_reading import ATOM, BODY, HEAD, arxiv, entry

KNOWN = entry(paper("u-can").title, day="Feb 25")
PAGE = HEAD + KNOWN + entry("NOVA: A New Paper", day="Mar 4 7") + entry("Broken", day="Feb 30")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf.db")


def test_a_page_is_imported(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "page.txt"
    file.write_text(PAGE)
    (done,) = import_sources(shelf, [str(file)])
    assert [(line.state, line.key) for line in done.lines] == [("known", "u-can"), ("new", "nova")]
    assert done.lines[1].skeleton == "letheon new paper nova"
    assert done.year == 2026, "the known paper's date gives the year"
    assert [(one.line, one.problem) for one in done.broken] == [(29, "'Feb 30' is no day")]
    stored = shelf.entry("nova")
    assert stored is not None
    assert (stored.date, stored.votes, stored.author_count, stored.badge) == ("2026-03-04", 7, 3, "no code yet")
    assert (stored.abstract, stored.own_words, stored.source) == (BODY, False, "page.txt")


def test_twice_the_same_file_changes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "page.txt"
    file.write_text(PAGE + entry("NOVA: a new paper", day="Mar 4 7"))
    import_sources(shelf, [str(file)])
    before = [tuple(row) for row in shelf.rows("SELECT * FROM entries")]
    (again,) = import_sources(shelf, [str(file)])
    assert [line.state for line in again.lines] == ["known", "unchanged", "unchanged"]
    assert [tuple(row) for row in shelf.rows("SELECT * FROM entries")] == before
    file.write_text(PAGE.replace("Mar 4 7", "Mar 4 8"))
    (more,) = import_sources(shelf, [str(file)])
    assert [line.state for line in more.lines] == ["known", "changed"]


def test_all_sources_are_read_before_any_is_stored(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "page.txt"
    file.write_text(PAGE)
    with pytest.raises(InputError, match="neither a file nor an arXiv identifier"):
        import_sources(shelf, [str(file), "nothing.txt"])
    with pytest.raises(LetheonError, match="could not be reached"):
        import_sources(shelf, [str(file), "2401.00001"], api="http://127.0.0.1:9/")
    assert not shelf.rows("SELECT * FROM entries")
    answer = re.sub(r"<entry><id>http://arxiv.org/abs/2401.00001.*?</entry>", "", ATOM)
    with arxiv(answer) as (address, _):
        (done,) = import_sources(shelf, ["2509.05316", "arXiv:2401.00002"], api=address)
    assert [(line.state, line.key) for line in done.lines] == [("known", "melu"), ("new", "last")]


def test_a_day_that_the_pages_year_lacks_is_broken(shelf: Shelf) -> None:
    done = import_reading(shelf, read_daily_text(HEAD + entry("Leap", day="Feb 29")), "x", date(2027, 8, 1), year=2027)
    assert not done.lines
    assert done.broken[0].problem == "2027 has no 29th of February"
    leap = import_reading(shelf, read_daily_text(HEAD + entry("Leap", day="Feb 29")), "x", date(2027, 8, 1), year=2028)
    assert leap.count("new") == 1


def test_a_file_that_has_a_paper_twice_loses_nothing(shelf: Shelf) -> None:
    text = """
@article{a, title={A Survey of Things}, year={2020}, eprint={2001.00001}, archivePrefix={arXiv}}
@article{b, title={A survey of things}, year={2024}, eprint={2401.00002}, archivePrefix={arXiv}}
@article{c, title={Other}, year={2024}, abstract={First.}}
@article{d, title={Other}, year={2024}, abstract={Second.}}
@article{e, title={A Renamed Survey}, year={2020}, eprint={2001.00001}, archivePrefix={arXiv}}
@article{f, title={!!!}, year={2020}}
@article{g, title={???}, year={2020}}
"""
    for state in ("new", "unchanged"):
        done = import_reading(shelf, read_bibtex(text), "x.bib", date(2027, 8, 1))
        assert done.count(state) == len(done.lines) == 5
        assert [(one.line, one.problem) for one in done.broken] == [
            (5, "it is the paper of line 4 with other facts"),
            (6, "it is the paper of line 2 with other facts"),
        ]
        assert "Second." in done.broken[0].text
        assert "A Renamed Survey" in done.broken[1].text


def test_a_large_file_is_read_and_stored_in_time(shelf: Shelf) -> None:
    entries = "".join(f"@article{{k{i}, title={{No {i}}}, year={{2020}}}}\n" + "\n" * 300 for i in range(2000))
    feed = "<feed>" + ("\n" * 300 + "<entry>x") * 2000 + "</feed>"
    started = time.process_time()
    assert read_bibtex(entries).drafts[-1].line == 1999 * 301 + 1
    assert read_atom(feed).broken[-1].line == 2000 * 300 + 1
    assert not FOOTER.fullmatch("1" * 5000 + "x")
    assert not FOOTER.fullmatch("© " * 5000 + "\n")
    assert time.process_time() - started < 5
    assert FOOTER.fullmatch("Previous 1 2 … 9 Next")
    assert FOOTER.fullmatch("© Hugging Face")


@pytest.mark.parametrize(
    "given", [{"authors": "9" * 400}, {"authors": "9" * 5000}, {"day": "Sep 1, 2023 " + "9" * 5000}]
)
def test_numbers_without_end_are_no_numbers(shelf: Shelf, given: dict[str, str]) -> None:
    text = entry("One", day=given.get("day", "Mar 4")).replace("3 authors", f"{given.get('authors', '3')} authors")
    done = import_reading(shelf, read_daily_text(HEAD + text), "x", date(2027, 8, 1))
    assert len(done.lines) + len(done.broken) >= 1
    assert all(one.author_count < 10**6 for one in shelf.entries())


@pytest.mark.parametrize("day", ["not a date at all", "2025-13-45T00", "2025-02-30"])
def test_a_date_in_html_must_be_one(day: str) -> None:
    props = {"dailyPapers": [{"paper": {"title": "T", "summary": "S", "publishedAt": day, "upvotes": True}}]}
    reading = parse_papers(f"<html><div data-props='{json.dumps(props)}'></div></html>", "x")
    assert not reading.drafts
    assert reading.broken[0].problem == f"date {day!r} is no date"
    props["dailyPapers"][0]["paper"]["publishedAt"] = "2025-02-28T00:00"
    reading = parse_papers(f"<html><div data-props='{json.dumps(props)}'></div></html>", "x")
    assert (reading.drafts[0].date, reading.drafts[0].votes) == ("2025-02-28", None)


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("U-CAN: Utility-Aware", "u-can"),
        ("On the Existence and Behaviour of Secondary Sinks", "on-the-existence-and-behaviour"),
        ("3D Überblick", "paper-3d-uberblick"),
        ("研究", "paper"),
        ("<script>alert(1)</script>", "script-alert-1-script"),
    ],
)
def test_keys(title: str, key: str) -> None:
    assert key_of(title) == key
    assert re.fullmatch(r"[a-z][a-z0-9_]*", key.replace("-", "_")), "`letheon new paper` takes it"
