"""The shelf: imports are idempotent, marks stay, migrations run once, a foreign file is refused."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.page.entries import Entry, as_json, catalogue_entries
from letheon.page.shelf import LONGEST_NOTE, Mark, Shelf
from letheon.papers.page import listing_json

PAPER = Entry("new", "A new paper", ("Ann Lee",), 3, "2026-01-02", "2601.00001", abstract="It says.", source="a file")


def test_the_catalogue_comes_first_as_the_command_line_prints_it(shelf: Shelf) -> None:
    assert [as_json(entry) for entry in shelf.entries()] == listing_json()


def test_the_same_import_twice_changes_nothing(shelf: Shelf) -> None:
    assert shelf.add([PAPER]).new == ("new",)
    before = shelf.revision()
    again = shelf.add([PAPER, Entry("other", "A NEW paper!")])
    assert again.each == (("new", "known"), ("new", "known"))
    assert shelf.revision() == before
    assert shelf.entry("new") == PAPER


def test_a_paper_of_the_catalogue_is_known_by_its_id_and_by_its_title(shelf: Shelf) -> None:
    gu = next(entry for entry in catalogue_entries() if entry.key == "gu")
    added = shelf.add([Entry("a", "x", arxiv=gu.arxiv), Entry("b", gu.title.upper() + ".")])
    assert added.known == ("gu", "gu")
    assert len(shelf.entries()) == len(catalogue_entries())


def test_new_facts_replace_old_ones_and_unknown_ones_do_not(shelf: Shelf) -> None:
    shelf.add([PAPER])
    assert shelf.add([Entry("x", "A new paper", abstract="It says more.", source="b")]).changed == ("new",)
    stored = shelf.entry("new")
    assert stored is not None
    assert (stored.abstract, stored.author_count, stored.source) == ("It says more.", 3, "a file")


def test_a_key_that_is_taken_is_given_a_number(shelf: Shelf) -> None:
    assert shelf.add([Entry("gu", "Another paper"), Entry("gu", "A third paper")]).new == ("gu-2", "gu-3")


def test_titles_without_letters_and_contradicting_ids_are_papers_of_their_own(shelf: Shelf) -> None:
    gu = next(entry for entry in catalogue_entries() if entry.key == "gu")
    papers = [
        *(Entry("paper", "🔥🔥🔥"), Entry("paper", "!!! ???")),
        *(Entry("a", "A survey", arxiv="2001.00001"), Entry("b", "A survey", arxiv="2401.00002")),
        Entry("c", gu.title, arxiv="1901.00001"),
    ]
    assert len(shelf.add(papers).new) == 5
    assert len(shelf.add(papers).known) == 5


def test_readers_wait_for_no_writer_and_see_what_is_committed(shelf: Shelf) -> None:
    with ThreadPoolExecutor(1) as pool, shelf.transaction():
        shelf.add([PAPER])
        assert shelf.entry("new") == PAPER, "the writer sees what it wrote"
        assert pool.submit(shelf.entry, "new").result(timeout=2) is None
    assert shelf.entry("new") == PAPER
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        shelf.rows("DELETE FROM entries")


def test_marks_survive_the_next_start(shelf: Shelf) -> None:
    shelf.star("gu", True)
    shelf.list_later("gu", True)
    shelf.list_later("gu", False)
    shelf.note("gu", "read Eq. 3")
    assert Shelf(shelf.path).marks() == {"gu": Mark(True, False, "read Eq. 3")}
    with pytest.raises(InputError, match="20,001 characters"):
        shelf.note("gu", "x" * (LONGEST_NOTE + 1))


def test_migrations_of_another_module_run_once(shelf: Shelf) -> None:
    first = "CREATE TABLE a (text TEXT DEFAULT ';'); INSERT INTO a VALUES ('x; y');"
    shelf.extend("mine", [first])
    shelf.extend("mine", [first, "CREATE TABLE b (c)"])
    assert [row["text"] for row in shelf.rows("SELECT text FROM a")] == ["x; y"]
    with pytest.raises(InputError, match="newer version"):
        shelf.extend("mine", [first])


def test_a_failed_migration_leaves_no_half(shelf: Shelf) -> None:
    with pytest.raises(sqlite3.Error):
        shelf.extend("mine", ["CREATE TABLE a (b); CREATE TABLE a (b);"])
    assert not shelf.rows("SELECT name FROM sqlite_master WHERE name = 'a'")


def test_a_file_that_is_no_shelf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(InputError, match="cannot be opened"):
        Shelf(tmp_path / "text")
    newer = sqlite3.connect(tmp_path / "newer.sqlite")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(InputError, match="newer version"):
        Shelf(tmp_path / "newer.sqlite")
