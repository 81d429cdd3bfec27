"""The queue: one run at a time; a run survives the site, is cancelled with its children, and ends as what it was."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.page import processes
from letheon.page import queue as queue_module
from letheon.page.queue import Queue, Run
from letheon.page.shelf import Shelf

# Stands for the interpreter: `-m letheon` is dropped, the rest says what to do.
FAKE = """#!/bin/sh
shift 2
echo "seeds: 3/8 of gu" >&2
case "$1" in
    wait) sleep 60 & echo $! > "$2/child"; wait ;;
    fail) exit 2 ;;
    die) kill -9 $PPID ;;
    shot) kill -9 $$ ;;
    stubborn) trap '' TERM; echo $$ > "$2/child"; sleep 60 ;;
esac
"""
pytestmark = pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")


@pytest.fixture
def queue(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    fake = tmp_path / "python"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    return Queue(shelf, tmp_path / "runs")


def until(queue: Queue, number: int, met: Callable[[Run], bool], seconds: float = 10) -> Run:
    end = time.monotonic() + seconds
    while not met(queue.run(number)) and time.monotonic() < end:
        queue.step()
        time.sleep(0.02)
    return queue.run(number)


def over(run: Run) -> bool:
    return run.over


@pytest.mark.parametrize(
    ("word", "state", "code"),
    [("ok", "done", 0), ("fail", "failed", 2), ("die", "interrupted", None), ("shot", "interrupted", 137)],
)
def test_a_run_ends_as_what_it_was(queue: Queue, word: str, state: str, code: int | None) -> None:
    run = until(queue, queue.add("test", word, [word]), over)
    assert (run.state, run.code) == (state, code)
    assert run.progress() == ("seeds of gu", 3, 8)


def test_one_runs_and_the_next_waits(queue: Queue) -> None:
    first, second = queue.add("test", "a", ["wait", "FOLDER"]), queue.add("test", "b", ["ok"])
    until(queue, first, lambda run: run.state == "running")
    queue.step()
    assert queue.run(second).state == "queued"
    with pytest.raises(InputError, match="does the same"):
        queue.add("test", "b", ["ok"])
    queue.cancel(first)
    assert until(queue, second, over).state == "done"


def test_cancelling_ends_the_children_too(queue: Queue) -> None:
    number = queue.add("test", "a", ["wait", "FOLDER"])
    child = queue.folder / str(number) / "child"
    until(queue, number, lambda run: child.is_file() and child.read_text().strip() != "")
    queue.cancel(number)
    end = time.monotonic() + 10
    while processes.birth(int(child.read_text())) and time.monotonic() < end:
        queue.step()
        time.sleep(0.02)
    assert not processes.birth(int(child.read_text()))
    assert queue.run(number).state == "cancelled"
    assert queue.run(queue.again(number)).state == "queued"


def test_a_run_survives_the_site_and_is_followed_by_the_next_one(queue: Queue) -> None:
    number = queue.add("test", "a", ["wait", "FOLDER"])
    running = until(queue, number, lambda run: run.state == "running")
    later = Queue(Shelf(queue.shelf.path), queue.folder)
    later.step()
    assert later.run(number).state == "running"
    later.cancel(number)
    until(queue, number, lambda run: not processes.alive(running.pid, running.born))
    later.step()
    assert later.run(number).state == "cancelled"


def test_a_run_whose_process_is_gone_is_marked(queue: Queue) -> None:
    number = queue.add("test", "a", ["wait", "FOLDER"])
    run = until(queue, number, lambda run: run.state == "running")
    processes.end(run.pid, force=True)
    assert until(queue, number, over).state == "interrupted"


def test_a_run_that_ignores_the_request_to_end_is_ended_by_force_before_the_next_one(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "GRACE_SECONDS", 0.3)
    first, second = queue.add("test", "a", ["stubborn", "FOLDER"]), queue.add("test", "b", ["ok"])
    child = queue.folder / str(first) / "child"
    until(queue, first, lambda run: child.is_file() and child.read_text().strip() != "")
    pid = int(child.read_text())
    queue.cancel(first)
    queue.step()
    time.sleep(0.1)
    queue.step()
    assert processes.birth(pid)
    assert queue.run(second).state == "queued"
    until(queue, second, lambda run: run.state != "queued")
    assert not processes.birth(pid)
    assert until(queue, second, over).state == "done"


def test_a_cancelled_run_is_ended_by_the_next_site_too(queue: Queue) -> None:
    number = queue.add("test", "a", ["stubborn", "FOLDER"])
    child = queue.folder / str(number) / "child"
    until(queue, number, lambda run: child.is_file() and child.read_text().strip() != "")
    queue.cancel(number)
    later = Queue(queue.shelf, queue.folder)
    later._take_over()
    end = time.monotonic() + 5
    while processes.birth(int(child.read_text())) and time.monotonic() < end:
        later.step()
        time.sleep(0.02)
    assert not processes.birth(int(child.read_text()))


def test_an_error_does_not_end_the_queue(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    step, failures = queue.step, iter([True, True, False])

    def locked() -> None:
        if next(failures, False):
            raise sqlite3.OperationalError("database is locked")
        step()

    monkeypatch.setattr(queue, "step", locked)
    monkeypatch.setattr(queue_module, "POLL_SECONDS", 0.01)
    number = queue.add("test", "a", ["ok"])
    queue.open()
    end = time.monotonic() + 5
    while not queue.run(number).over and time.monotonic() < end:
        time.sleep(0.02)
    queue.close()
    assert queue.run(number).state == "done"


def test_a_start_that_could_not_be_noted_is_no_start_and_no_second_one(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = queue._set, []

    def locked(number: int, **values: object) -> None:
        calls.append(values)
        if len(calls) in failing:
            raise sqlite3.OperationalError("database is locked")
        write(number, **values)

    monkeypatch.setattr(queue, "_set", locked)
    first, second = queue.add("test", "a", ["wait", "FOLDER"]), queue.add("test", "b", ["ok"])
    failing = (1, 3)
    with pytest.raises(sqlite3.OperationalError):
        queue.step()
    assert not queue._children, "nothing was started before it was noted"
    with pytest.raises(sqlite3.OperationalError):
        queue.step()
    queue.step()
    assert queue.run(first).pid == queue._children[first].pid
    assert queue.run(second).state == "queued"
    queue.cancel(first)
    assert until(queue, second, over).state == "done"


def test_a_folder_of_an_earlier_run_is_emptied(queue: Queue) -> None:
    (queue.folder / "1").mkdir(parents=True)
    (queue.folder / "1" / "code").write_text("0\n")
    assert until(queue, queue.add("test", "a", ["die"]), over).state == "interrupted"


def test_only_the_folders_name_is_replaced(queue: Queue) -> None:
    run = queue.run(queue.add("test", "a", ["FOLDER/out", "FOLDER", "/data/FOLDERS/x", "FOLDERS"]))
    assert run.command == [f"{run.folder}/out", str(run.folder), "/data/FOLDERS/x", "FOLDERS"]


@pytest.mark.parametrize("word", ["ok", "fail", "die"])
def test_uploaded_rows_are_deleted_when_the_run_is_over(queue: Queue, word: str) -> None:
    first, second, orphan = (queue.folder / "uploads" / name for name in ("first", "second", "orphan"))
    for folder in (first, second, orphan):
        folder.mkdir(parents=True)
        (folder / "forget.jsonl").write_text("private")
    number = queue.add("forget", "a", [word, str(first / "forget.jsonl")])
    waiting = queue.add("forget", "b", ["ok", str(second / "forget.jsonl")])
    queue._take_over()
    assert first.exists()
    assert not orphan.exists()
    until(queue, number, over)
    assert not first.exists()
    queue.cancel(waiting)
    until(queue, waiting, lambda run: not second.exists())
    assert not second.exists()
    with pytest.raises(InputError, match="rows of this request are deleted"):
        queue.again(number)


def test_another_process_of_the_same_number_is_not_taken_for_the_run() -> None:
    assert processes.alive(os.getpid(), processes.birth(os.getpid()))
    assert not processes.alive(os.getpid(), "1")
    assert not processes.alive(2**22 + 1, "")
