"""Graceful interruption: the first SIGINT or SIGTERM is recorded, the second ends the process at once."""

import logging
import signal
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from letheon.core.processes import is_main_process
from letheon.core.workers import shares_work

logger = logging.getLogger("letheon")


class Signals:
    """Records in `came` whether a signal has arrived while the block runs.

    It does nothing outside the main thread, nor in a process that shares work out: its trainings save nothing.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if shares_work():
            return self
        with suppress(ValueError):  # not the main thread: leave signals alone
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
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
