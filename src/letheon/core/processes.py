"""The processes of one job, as launchers number them; importing this loads no torch.

`--processes`, torchrun and `accelerate launch` all set RANK, WORLD_SIZE and LOCAL_RANK. Process 0 writes and prints.
"""

from __future__ import annotations

import os
import sys

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


def is_main_process() -> bool:
    """Return whether this process writes files and prints: the one with RANK 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """Return the number of processes of the job, over all hosts."""
    return int(os.environ.get("WORLD_SIZE", "1")) if is_launched() else 1


def processes_here() -> int:
    """Return the number of processes of the job on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", process_count()))


def is_launched() -> bool:
    """Return whether a launcher has started this process as one of a job."""
    return "RANK" in os.environ


def leave_the_job() -> None:
    """Make this process one by itself, for work that several processes cannot share; the others go on without it."""
    if not is_launched():
        return
    for name in VARIABLES:
        os.environ.pop(name, None)
    if "accelerate" in sys.modules:
        import torch
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
