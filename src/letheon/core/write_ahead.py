"""SQLite's write-ahead log, for databases that several processes open at the same moment."""

from __future__ import annotations

import sqlite3
import time

PAUSE = 0.02  # seconds between two attempts


def use_write_ahead_log(connection: sqlite3.Connection, patience: float) -> None:
    """Switch a database to a write-ahead log, which it keeps.

    SQLite waits for others' transactions as long as the connection's timeout says, but not for another process that
    makes this switch at the same moment.

    Args:
        patience: seconds for which it is tried again.

    Raises:
        sqlite3.OperationalError: the database stayed locked, or the file cannot be written.
    """
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY")
            if not busy or time.monotonic() >= end:
                raise
            time.sleep(PAUSE)
