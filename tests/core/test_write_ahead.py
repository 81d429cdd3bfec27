"""Several processes may open one new database at the same moment."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from letheon.core import write_ahead
from letheon.core.write_ahead import use_write_ahead_log


def opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0.05, isolation_level=None, check_same_thread=False)


def test_the_switch_waits_for_whoever_holds_the_database(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "new.db"), opened(tmp_path / "new.db")
    first.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_write_ahead_log(second, patience=0.0)
    free = threading.Timer(0.3, lambda: first.execute("COMMIT"))
    free.start()
    use_write_ahead_log(second, patience=20.0)
    free.join()
    assert second.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_is_no_lock_is_raised_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("This is no database, though it is long enough to have a header of one." * 3)
    monkeypatch.setattr(write_ahead, "PAUSE", 60.0)
    start = time.monotonic()
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        use_write_ahead_log(opened(tmp_path / "text.db"), patience=60.0)
    assert time.monotonic() - start < 30


def test_many_processes_open_a_new_database_at_once(tmp_path: Path) -> None:
    script = (
        "import sqlite3, sys; from letheon.core.write_ahead import use_write_ahead_log; sys.stdin.read()\n"
        "use_write_ahead_log(sqlite3.connect(sys.argv[1], isolation_level=None), 60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "new.db")]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(6)]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
    assert [child.wait(timeout=120) for child in children] == [0] * 6
