"""Importing onto a shelf: known papers are matched, others enter, and a second time changes nothing."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from letheon.core.errors import InputError, LetheonError
from letheon.page.importing.daily_text import read_daily_text
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
