"""Graceful interruption: a training is told of SIGINT or SIGTERM, other work is ended by it with words of its own."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from letheon.core.errors import Interrupted, LetheonError
from letheon.core.processes import handle_signals, is_launched, is_main_process, is_of_launch, restore_signals
from letheon.core.workers import shares_work

logger = logging.getLogger("letheon")
# Seconds in which a second signal counts as the first: a terminal and a launcher may both send it.
ECHO = 1.0


class Signals:
    """Records in `came` whether a signal has arrived while the block runs; the second ends the process at once.

    It does nothing outside the main thread, nor in a process that shares work out: its trainings save nothing.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if shares_work():
            return self
        self._before = handle_signals(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        restore_signals(self._before)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.came:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.came = True
        if is_main_process():
            logger.warning("finishing this step; once more to end at once")


@contextmanager
def ended_by_signals(words: str, remedy: str) -> Iterator[None]:
    """End the block on SIGINT and SIGTERM, which other processes of the job get too; a second one ends it at once.

    Args:
        words: what is kept.
        remedy: how to go on.

    Raises:
        Interrupted: a signal came, here or in a training inside.
    """
    came, speaks = 0.0, is_main_process()

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal came
        if came:
            if time.monotonic() - came > ECHO:
                end_at_once()
            return
        if is_of_launch(number):
            raise SystemExit(LetheonError.exit_code)
        came = time.monotonic()
        raise KeyboardInterrupt

    def end_at_once() -> None:
        if speaks:
            logger.error("error: %s\n       %s", words, remedy)
        os._exit(Interrupted.exit_code)

    before = handle_signals(stop)
    try:
        yield
    except BaseException as error:  # also that another process has ended, by the same signal
        if came or isinstance(error, (KeyboardInterrupt, Interrupted)):
            raise Interrupted(words, remedy) from None
        raise
    finally:
        if not (came and is_launched()):
            restore_signals(before)
