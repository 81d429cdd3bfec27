"""The processes of one job, as launchers number them; importing this loads no torch.

`--processes`, torchrun and `accelerate launch` all set RANK, WORLD_SIZE and LOCAL_RANK. Process 0 writes and prints.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from letheon.core.variables import STARTED_HERE

HANDLED = (signal.SIGINT, signal.SIGTERM)
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


def is_main_process() -> bool:
    """Return whether this process writes files and prints: the one with RANK 0, or the only one."""
    return number_of_process() == 0


def process_count() -> int:
    """Return the number of processes of the job, over all hosts."""
    return int(os.environ.get("WORLD_SIZE", "1")) if is_launched() else 1


def processes_here() -> int:
    """Return the number of processes of the job on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))


def is_launched() -> bool:
    """Return whether a launcher has started this process as one of a job."""
    return "RANK" in os.environ


def number_of_process() -> int:
    """Return the number of this process in the job, from 0."""
    return int(os.environ.get("RANK", "0"))


def handle_signals(handler: Callable[..., Any] | signal.Handlers) -> dict[int, Any]:
    """Let a function handle SIGINT and SIGTERM; return the handlers before, none outside the main thread."""
    with suppress(ValueError):
        return {number: signal.signal(number, handler) for number in HANDLED}
    return {}


def is_of_launch(number: int) -> bool:
    """Return whether Letheon's launch sent a signal because another process has failed, which the launch reports.

    What a user sends it hands on as SIGINT, where torch lets it choose.
    """
    chosen = "SIGTERM" not in os.environ.get("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM")
    return chosen and STARTED_HERE in os.environ and number == signal.SIGTERM


def restore_signals(before: Mapping[int, Any]) -> None:
    """Give the signals back the handlers that `handle_signals` has returned."""
    for number, handler in before.items():
        signal.signal(number, handler)


def forget_the_job() -> dict[str, str]:
    """Make this process see itself as the only one; return the launcher's variables, which bring the job back.

    What connects the processes stays.
    """
    numbers = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
    return numbers


def leave_the_job() -> None:
    """Make this process one by itself, for work that several processes cannot share; the others go on without it."""
    if not is_launched():
        return
    forget_the_job()
    if "accelerate" in sys.modules:
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
