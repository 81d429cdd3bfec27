"""Graceful interruption: a training is told of SIGINT or SIGTERM, other work is ended by it with words of its own."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from letheon.core.errors import Interrupted
from letheon.core.processes import handle_signals, is_launched, is_main_process, restore_signals
from letheon.core.workers import shares_work

logger = logging.getLogger("letheon")


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
    """End the block on SIGINT and SIGTERM, which other processes of the job get too.

    Args:
        words: what is kept.
        remedy: how to go on.

    Raises:
        Interrupted: a signal came, here or in a training inside.
    """
    came = False

    def stop(*_: Any) -> None:
        nonlocal came
        came = True
        handle_signals(signal.SIG_IGN)  # a terminal and the launcher both send it
        raise KeyboardInterrupt

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
