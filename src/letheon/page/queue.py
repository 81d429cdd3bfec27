"""The queue of runs: one at a time, each a process of its own that survives a restart of the site.

A run is a row of the shelf's file and a folder with its log, its output and what the command writes. When the site
starts, a run whose process is alive is followed further; one whose process is gone is marked as interrupted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from sqlite3 import Row
from typing import Any, Literal, get_args

from letheon.core.errors import InputError
from letheon.core.runs import utc_now
from letheon.page import processes
from letheon.page.outcomes import read_outcome
from letheon.page.shelf import Shelf

State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
STATES: tuple[State, ...] = get_args(State)
POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0  # between the request to end and the end by force
LOG_BYTES = 20_000  # the end of the log that is shown
UPLOADS = "uploads"  # folder of uploaded rows, one folder per request
TAKEN_OVER = 20  # newest cancelled runs whose processes a new site looks for
KILLED = 128  # exit codes from here on are those of a process that a signal ended
_LOG = logging.getLogger(__name__)
PROGRESS = re.compile(r"^(.*): (\d+)/(\d+)(?:, more than the \d+ planned)? ?(.*)$")

MIGRATIONS = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject TEXT NOT NULL, arguments TEXT NOT NULL,
        state TEXT NOT NULL, pid INTEGER NOT NULL DEFAULT 0, born TEXT NOT NULL DEFAULT '',
        created TEXT NOT NULL, started REAL NOT NULL DEFAULT 0, ended REAL NOT NULL DEFAULT 0, code INTEGER
    );
    CREATE INDEX runs_by_subject ON runs (kind, subject);
    """,
)


@dataclass(frozen=True)
class Run:
    """One run of the queue.

    Attributes:
        kind: what it does, such as `paper`.
        subject: what it is about: for a paper its key.
        arguments: what stands after `letheon` on its command line; `FOLDER` and `FOLDER/...` name its folder.
        created: when it was asked for, ISO 8601.
        started, ended: seconds since 1970; 0 before.
        code: the exit code; None where there is none.
        folder: where its files are.
    """

    id: int
    kind: str
    subject: str
    arguments: tuple[str, ...]
    state: State
    pid: int
    born: str
    created: str
    started: float
    ended: float
    code: int | None
    folder: Path

    @property
    def over(self) -> bool:
        """Whether it neither runs nor waits."""
        return self.state not in ("queued", "running")

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return max(0.0, (self.ended or time.time()) - self.started) if self.started else 0.0

    @property
    def command(self) -> list[str]:
        """Its arguments with the folder's name in the place of `FOLDER`."""
        return [
            f"{self.folder}{word[6:]}" if word == "FOLDER" or word.startswith("FOLDER/") else word
            for word in self.arguments
        ]

    @property
    def model(self) -> str:
        """The user's model that a paper's claim is measured on; empty for the paper's own."""
        words = dict(pairwise(self.arguments))
        return words.get("--model", "") if self.kind == "paper" else ""

    @property
    def repeatable(self) -> bool:
        """Whether it can be put into the queue once more: uploaded rows are deleted when a run is over."""
        return not self.uploads()

    def uploads(self) -> list[Path]:
        """The folders of uploaded rows that its arguments name."""
        parents = [Path(word).parent for word in self.arguments]
        return [folder for folder in dict.fromkeys(parents) if folder.parent == self.folder.parent / UPLOADS]

    def log(self) -> str:
        """The end of its log."""
        return _tail(self.folder / processes.LOG)

    def progress(self) -> tuple[str, int, int]:
        """The last line of progress in its log: words, finished units, all units (0 where none is known)."""
        for line in reversed(self.log().splitlines()):
            if match := PROGRESS.match(line):
                return f"{match[1]} {match[4]}".strip(), int(match[2]), int(match[3])
        return "", 0, 0

    def outcome(self) -> dict[str, Any] | None:
        """The outcome that a paper's run wrote, None if it wrote none."""
        return read_outcome(self.folder / "out", self.folder)


class Queue:
    """The runs of a shelf and the thread that starts them.

    Args:
        shelf: the file that lists the runs.
        folder: one folder per run is made in it.
    """

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self.shelf, self.folder = shelf, folder
        shelf.extend("runs", MIGRATIONS)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._births: dict[int, str] = {}
        self._ending: dict[int, float] = {}  # run -> when it is ended by force
        self._stop, self._wake = threading.Event(), threading.Event()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread that follows the runs."""
        self._stop.clear()
        self._take_over()
        self._thread = threading.Thread(target=self._loop, daemon=True, name="letheon-runs")
        self._thread.start()

    def close(self) -> None:
        """Stop following the runs; a process that runs goes on."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def add(self, kind: str, subject: str, arguments: Sequence[str]) -> int:
        """Put a run at the end of the queue and return its number.

        Args:
            arguments: what stands after `letheon`; `FOLDER`, alone or before a slash, is replaced by the folder of the
                run's own files.

        Raises:
            InputError: the same run waits or runs already.
        """
        words = json.dumps(list(arguments))
        with self.shelf.transaction() as connection:
            same = connection.execute(
                "SELECT id FROM runs WHERE arguments = ? AND state IN ('queued', 'running')", (words,)
            ).fetchone()
            if same:
                raise InputError(f"run {same['id']} does the same", "wait for it, or cancel it")
            number = connection.execute(
                "INSERT INTO runs (kind, subject, arguments, state, created) VALUES (?, ?, ?, 'queued', ?)",
                (kind, subject, words, utc_now()),
            ).lastrowid
        self._wake.set()
        return int(number or 0)

    def again(self, number: int) -> int:
        """Put a run into the queue once more, under a new number.

        Raises:
            InputError: its uploaded rows are deleted, or the same run waits or runs already.
        """
        run = self.run(number)
        if not run.repeatable:
            raise InputError("the rows of this request are deleted when it is over", "make the request anew")
        return self.add(run.kind, run.subject, run.arguments)

    def run(self, number: int) -> Run:
        """The run with this number.

        Raises:
            InputError: there is none.
        """
        rows = self.shelf.rows("SELECT * FROM runs WHERE id = ?", (number,))
        if not rows:
            raise InputError(f"there is no run {number}", "see the list of runs")
        return self._run(rows[0])

    def runs(self, kind: str = "", subject: str = "") -> list[Run]:
        """The runs, newest first, of one kind and about one subject where they are named."""
        rows = self.shelf.rows(
            "SELECT * FROM runs WHERE (? = '' OR kind = ?) AND (? = '' OR subject = ?) ORDER BY id DESC",
            (kind, kind, subject, subject),
        )
        return [self._run(row) for row in rows]

    def cancel(self, number: int) -> None:
        """End a run, or take it out of the queue; one that is over stays as it is."""
        with self._lock:
            run = self.run(number)
            if run.over:
                return
            self._set(number, state="cancelled", ended=time.time())
            if run.state == "running":
                self._ending[number] = time.monotonic() + GRACE_SECONDS
                if self._runs(run):
                    processes.end(self._process(run)[0])
            else:
                _forget_uploads(run)
        self._wake.set()

    def step(self) -> None:
        """Look at the run that runs, and start the next one if none does."""
        with self._lock:
            self._end_by_force()
            running = [self._run(row) for row in self.shelf.rows("SELECT * FROM runs WHERE state = 'running'")]
            still = [run for run in running if self._follow(run)]
            if not still and not self._ending:
                waiting = self.shelf.rows("SELECT * FROM runs WHERE state = 'queued' ORDER BY id LIMIT 1")
                if waiting:
                    self._start(self._run(waiting[0]))

    def _follow(self, run: Run) -> bool:
        """Return whether a run still runs; one that ended is marked."""
        code = processes.exit_code(run.folder)
        pid, born = self._process(run)
        if self._runs(run) if code is None else processes.alive(pid, born):
            if run.pid != pid:  # it was started, and the file was locked then
                self._set(run.id, pid=pid, born=born)
            return True
        code = processes.exit_code(run.folder)  # it may have been written meanwhile
        killed = code is None or code >= KILLED
        state: State = "interrupted" if killed else "done" if code in (0, 3) else "failed"
        self._set(run.id, state=state, code=code, ended=time.time())
        self._children.pop(run.id, None)
        self._births.pop(run.id, None)
        _forget_uploads(run)
        return False

    def _start(self, run: Run) -> None:
        self._set(run.id, state="running", started=time.time())
        try:
            if run.folder.exists():  # of another run of this number, in a file that is gone
                shutil.rmtree(run.folder)
            child = processes.start(run.command, run.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                (run.folder / processes.LOG).write_text(f"it could not be started: {error}\n")
            self._set(run.id, state="failed", ended=time.time())
            _forget_uploads(run)
            return
        self._children[run.id], self._births[run.id] = child, processes.birth(child.pid)
        self._set(run.id, pid=child.pid, born=self._births[run.id])

    def _process(self, run: Run) -> tuple[int, str]:
        """The number and the birth of a run's process, which the file may not have yet."""
        child = self._children.get(run.id)
        return (run.pid, run.born) if child is None else (child.pid, self._births[run.id])

    def _runs(self, run: Run) -> bool:
        """Whether any process of a run's group runs."""
        if (child := self._children.get(run.id)) is not None:
            child.poll()
        return processes.group_alive(*self._process(run))

    def _end_by_force(self) -> None:
        for number, deadline in list(self._ending.items()):
            run = self.run(number)
            if not self._runs(run):
                del self._ending[number]
                self._children.pop(number, None)
                self._births.pop(number, None)
                _forget_uploads(run)
            elif time.monotonic() > deadline:
                processes.end(self._process(run)[0], force=True)

    def _take_over(self) -> None:
        """End cancelled runs that the site before did not live to end, and delete rows that no run needs."""
        with self._lock:
            newest = self.runs()
            for run in [run for run in newest if run.state == "cancelled"][:TAKEN_OVER]:
                if self._runs(run):
                    self._ending[run.id] = time.monotonic()
            needed = {folder for run in newest if not run.over or run.id in self._ending for folder in run.uploads()}
            for folder in (self.folder / UPLOADS).glob("*"):
                if folder not in needed:
                    shutil.rmtree(folder, ignore_errors=True)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
            except Exception:  # such as a locked file: the next step tries again
                _LOG.exception("a step of the queue failed; it is tried again")
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def _set(self, number: int, **values: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        with self.shelf.transaction() as connection:
            connection.execute(f"UPDATE runs SET {names} WHERE id = ?", (*values.values(), number))

    def _run(self, row: Row) -> Run:
        values = dict(row)
        arguments = tuple(json.loads(values.pop("arguments")))
        return Run(**values, arguments=arguments, folder=self.folder / str(row["id"]))


def _forget_uploads(run: Run) -> None:
    for folder in run.uploads():
        shutil.rmtree(folder, ignore_errors=True)


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - LOG_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
