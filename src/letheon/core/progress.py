"""Progress bars on a terminal (rich), or a plain line every ten seconds without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with the number of finished units, a short text, and a new total where more units have come to light.
Advance = Callable[..., None]
_quiet = False


def be_quiet(quiet: bool = True) -> None:
    """Switch all progress output off (`--quiet`, tests)."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether progress output is off."""
    return _quiet


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Show progress on standard error while the block runs; yield the function that advances it."""
    if _quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bar(title, total) as advance:
            yield advance
    else:
        yield _lines(title, total)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("[dim]{task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(title, total=total, words="")

        def advance(done: int, words: str = "", new_total: int = 0) -> None:
            bar.update(task, completed=done, total=max(new_total or total, done), words=words)

        yield advance


def _lines(title: str, total: int) -> Advance:
    last = time.monotonic()
    print(f"{title}: {total} to do", file=sys.stderr, flush=True)

    def advance(done: int, words: str = "", new_total: int = 0) -> None:
        nonlocal last, total
        total = new_total or total
        if done == total or time.monotonic() - last > 10:
            last = time.monotonic()
            counted = f"{done}/{total}" if done <= total else f"{done}, more than the {total} planned"
            print(f"{title}: {counted} {words}", file=sys.stderr, flush=True)

    return advance
