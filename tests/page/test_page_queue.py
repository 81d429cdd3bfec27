"""The queue: one run at a time; a run survives the site, is cancelled with its children, and ends as what it was."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.page import processes
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
    ("word", "state", "code"), [("ok", "done", 0), ("fail", "failed", 2), ("die", "interrupted", None)]
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


def test_another_process_of_the_same_number_is_not_taken_for_the_run() -> None:
    assert processes.alive(os.getpid(), processes.birth(os.getpid()))
    assert not processes.alive(os.getpid(), "1")
    assert not processes.alive(2**22 + 1, "")
