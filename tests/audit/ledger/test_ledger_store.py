"""The ledger's file: append-only, private, whole after kill, full disk and two writers at once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from letheon.audit.ledger.store import FILE, Ledger
from letheon.core.errors import InputError, LetheonError

# A child that appends and says how far it came; `sys.argv`: folder, how many, what it calls itself.
WRITER = """
import sys
from pathlib import Path
from letheon.audit.ledger.store import Ledger
ledger = Ledger.open(Path(sys.argv[1]), create=True, actor=sys.argv[3])
for i in range(int(sys.argv[2])):
    print(ledger.append("begin", request=f"{sys.argv[3]}-{i}").sequence, flush=True)
"""


def writer(folder: Path, count: int, name: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER, str(folder), str(count), name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_begins_with_an_entry_of_its_own_and_is_private(ledger: Ledger) -> None:
    first = ledger.entries()[0]
    assert (first.sequence, first.action, first.actor) == (1, "create", "tester")
    assert mode(ledger.folder) == 0o700
    for file in ledger.folder.glob(f"{FILE}*"):
        assert mode(file) == 0o600, file


def test_what_is_appended_is_read_back_and_verifies(ledger: Ledger) -> None:
    for i in range(5):
        ledger.append("begin", request=f"r-{i}", settings={"rate": 2e-5, "large": 1e21})
    found = ledger.verify(ledger.head())
    assert found.whole
    assert found.size == 6
    again = Ledger.open(ledger.folder)
    assert [entry.request for entry in again.entries()[1:]] == [f"r-{i}" for i in range(5)]
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET entry = 'x' WHERE sequence = 1",
        "DELETE FROM entries WHERE sequence = 1",
        "INSERT INTO entries VALUES (9, 'x', 'y', NULL)",
        "INSERT OR REPLACE INTO entries VALUES (1, 'x', 'y', NULL)",
    ],
)
def test_the_tables_refuse_anything_but_the_next_entry(ledger: Ledger, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        ledger.connection.execute(statement)


def tampered(ledger: Ledger, *statements: str) -> None:
    """What somebody who can write the file may do: first the triggers go."""
    for name in ("in_order", "no_update", "no_delete"):
        ledger.connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    for statement in statements:
        ledger.connection.execute(statement)


@pytest.mark.parametrize(
    ("statements", "place"),
    [
        (["UPDATE entries SET entry = replace(entry, 'r-1', 'r-9') WHERE sequence = 3"], 3),
        (["UPDATE entries SET hash = replace(hash, substr(hash, 1, 1), 'z') WHERE sequence = 3"], 3),
        (["DELETE FROM entries WHERE sequence = 3"], 3),
        (
            [
                "DELETE FROM entries WHERE sequence = 3",
                "UPDATE entries SET sequence = sequence - 1 WHERE sequence > 3",
            ],
            3,
        ),
        (
            [
                "UPDATE entries SET sequence = -3 WHERE sequence = 3",
                "UPDATE entries SET sequence = 3 WHERE sequence = 4",
                "UPDATE entries SET sequence = 4 WHERE sequence = -3",
            ],
            3,
        ),
        (["DELETE FROM entries"], 1),
    ],
    ids=["changed", "hash changed", "removed", "removed and renumbered", "swapped", "emptied"],
)
def test_tampering_is_found_where_it_is(ledger: Ledger, statements: list[str], place: int) -> None:
    for i in range(4):
        ledger.append("begin", request=f"r-{i}")
    tampered(ledger, *statements)
    found = ledger.verify()
    assert found.faults[0].sequence == place
    assert any("triggers" in note for note in found.notes)


def test_one_change_is_one_fault(ledger: Ledger) -> None:
    for i in range(4):
        ledger.append("begin", request=f"r-{i}")
    tampered(ledger, "UPDATE entries SET hash = replace(hash, substr(hash, 1, 1), 'z') WHERE sequence = 3")
    assert [fault.sequence for fault in ledger.verify().faults] == [3]


def test_nothing_is_added_after_a_changed_end(ledger: Ledger) -> None:
    tampered(ledger, "UPDATE entries SET entry = replace(entry, 'tester', 'nobody') WHERE sequence = 1")
    with pytest.raises(LetheonError, match="last entry was changed"):
        ledger.append("begin", request="r")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_a_stored_entry_is_found(tmp_path: Path, data: st.DataObject) -> None:
    """In the file itself, behind SQLite's back."""
    folder = tmp_path / "bytes"
    if not folder.exists():
        made = Ledger.open(folder, create=True)
        for i in range(3):
            made.append("begin", request=f"r-{i}")
        made.close()  # the last connection moves everything into the database file
    path = folder / FILE
    whole = path.read_bytes()
    ledger = Ledger.open(folder)
    line = data.draw(st.sampled_from(ledger.lines()))
    ledger.close()
    text = line.entry + line.hash.encode()  # as they lie side by side in the record
    start = whole.index(text)
    place = start + data.draw(st.integers(0, len(text) - 1))
    flip = data.draw(st.integers(1, 255))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
    try:
        ledger = Ledger.open(folder)
        found = ledger.verify()
        ledger.close()
        assert found.faults[0].sequence == line.place
    finally:
        path.write_bytes(whole)


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path, ledger: Ledger) -> None:
    ledger.close()
    (ledger.folder / FILE).write_bytes(b"not a database" * 300)
    with pytest.raises(LetheonError, match="damaged"):
        Ledger.open(ledger.folder)


def test_a_killed_writer_leaves_a_whole_chain(tmp_path: Path) -> None:
    """kill -9 at random moments: what was reported is there, nothing is half there, and writing goes on."""
    folder = tmp_path / "ledger"
    draw = random.Random(0)
    reported = 0
    for attempt in range(4):
        child = writer(folder, 100_000, f"w{attempt}")
        assert child.stdout is not None
        reported = int(child.stdout.readline())  # it has begun
        time.sleep(draw.uniform(0, 0.2))
        os.kill(child.pid, signal.SIGKILL)
        reported = max([reported, *map(int, child.stdout.read().split("\n")[:-1])])
        child.wait()
        child.stdout.close()
        ledger = Ledger.open(folder)
        found = ledger.verify()
        ledger.close()
        assert found.whole, found.faults
        assert found.size >= reported


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    folder, count = tmp_path / "ledger", 40
    children = [writer(folder, count, name) for name in ("left", "right")]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    ledger = Ledger.open(folder)
    assert ledger.verify().whole
    requests = [entry.request for entry in ledger.entries()[1:]]
    ledger.close()
    for name in ("left", "right"):
        assert [one for one in requests if one and one.startswith(name)] == [f"{name}-{i}" for i in range(count)]


def test_a_full_disk_is_said_and_nothing_is_half_written(ledger: Ledger) -> None:
    ledger.append("begin", request="before")
    ledger.connection.execute("PRAGMA max_page_count = 5")
    settings = {"long": "x" * 20_000}

    def two_entries() -> None:
        with ledger.writing() as writing:
            writing.add("begin", request="small")
            writing.add("begin", request="large", settings=settings)

    with pytest.raises(LetheonError, match="disk is full"):
        two_entries()
    assert [entry.request for entry in ledger.entries()] == [None, "before"], "the small one is not there either"
    assert ledger.verify().whole
    ledger.connection.execute("PRAGMA max_page_count = 1000000")
    ledger.append("begin", request="after")
    assert ledger.verify().whole


def test_an_entry_and_its_deed_stand_together(ledger: Ledger) -> None:
    def failing_deed() -> None:
        with ledger.writing() as writing:
            writing.add("begin", request="r")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_deed()
    assert len(ledger.entries()) == 1


def test_a_writer_has_the_ledger_for_itself_before_it_reads_the_end(ledger: Ledger) -> None:
    """Else two writers would read one end, and the second would have to give up."""
    other = sqlite3.connect(ledger.folder / FILE, isolation_level=None, timeout=0)
    with ledger.writing(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    other.close()


def test_a_writer_that_waits_in_vain_is_told_so(ledger: Ledger) -> None:
    other = sqlite3.connect(ledger.folder / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger.connection.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(LetheonError, match="another process"):
        ledger.append("begin", request="r")
    other.execute("ROLLBACK")
    other.close()


def test_a_place_that_cannot_be_a_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no ledger"):
        Ledger.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a ledger is a folder"):
        Ledger.open(tmp_path / "file", create=True)
    with pytest.raises(InputError, match="holds other things"):
        Ledger.open(tmp_path, create=True)


def test_a_text_that_is_too_long_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="reason"):
        ledger.append("begin", request="r", reason="x" * 1001)
