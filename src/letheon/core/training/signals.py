"""Graceful interruption: a training is told of SIGINT or SIGTERM, other work is ended by it with words of its own."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from letheon.core.errors import Interrupted
from letheon.core.processes import is_launched, is_main_process
from letheon.core.workers import shares_work

logger = logging.getLogger("letheon")
HANDLED = (signal.SIGINT, signal.SIGTERM)


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
        self._before = _handled_by(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
        words, remedy: what is kept, and how to go on.

    Raises:
        Interrupted: a signal came, here or in a training inside.
    """
    came = False

    def stop(*_: Any) -> None:
        nonlocal came
        came = True
        for number in HANDLED:  # a terminal and the launcher both send it
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = _handled_by(stop)
    try:
        yield
    except BaseException as error:  # also that another process has ended, by the same signal
        if came or isinstance(error, (KeyboardInterrupt, Interrupted)):
            raise Interrupted(words, remedy) from None
        raise
    finally:
        if not (came and is_launched()):
            for number, handler in before.items():
                signal.signal(number, handler)


def _handled_by(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Let a function handle SIGINT and SIGTERM; return the handlers before, none outside the main thread."""
    with suppress(ValueError):
        return {number: signal.signal(number, handler) for number in HANDLED}
    return {}
