"""Starting a command in several processes on this machine, with torch's elastic launch."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from letheon.core.errors import InputError, Interrupted, LetheonError
from letheon.core.processes import is_launched
from letheon.core.variables import STARTED_HERE

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

# Seconds from a signal until a process is killed: it may take its step to the end and write a checkpoint.
PATIENCE = 600


def run_in_processes(count: int, remedy: str) -> None:
    """Run this very command in several processes, and leave with their exit code when they have ended.

    It returns where there is one process to run, or where a launcher (this one, torchrun, accelerate) has started this
    process as one of several. The processes share this console; the first prints. An error of one ends the others.

    Args:
        remedy: what to do where a process was killed.

    Raises:
        LetheonError: a process was killed.
    """
    if count == 1 or is_launched():
        return
    if count < 1:
        raise InputError(f"--processes {count}", "give 1 or more")
    import logging

    import psutil
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    logging.disable(logging.CRITICAL)  # the launch would report exit codes and signals, which the processes do better
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.environ[STARTED_HERE] = "1"
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(PATIENCE))
    config = _config(count)
    # The processes get SIGTERM from the launch alone, where one of them has failed; see `is_of_launch`.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        elastic_launch(config, sys.executable)("-m", "letheon", *sys.argv[1:])
    except ChildFailedError as error:
        by_launch = -signal.SIGTERM  # how the launch ends the others
        killed = [rank for rank, one in error.failures.items() if one.exitcode < 0 and one.exitcode != by_launch]
        first, failure = error.get_first_failure()
        if killed or failure.exitcode < 0:
            rank = min(killed, default=first)
            how = error.failures[rank].signal_name()
            problem = f"process {rank} of {count} was ended by {how}, and the others with it"
            raise LetheonError(problem, remedy) from None
        sys.exit(failure.exitcode)
    except SignalException:
        for child in psutil.Process().children():  # that did not end by two signals
            child.kill()
        sys.exit(Interrupted.exit_code)
    sys.exit(0)


def _config(count: int) -> LaunchConfig:
    """Return torch's settings for processes on this machine, none of which is started again."""
    import uuid

    from torch.distributed.launcher.api import LaunchConfig

    handled: dict[str, Any] = (
        {"signals_to_handle": "SIGINT,SIGHUP,SIGQUIT"} if hasattr(LaunchConfig, "signals_to_handle") else {}
    )
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        **handled,
    )
