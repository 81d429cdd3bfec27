"""Independent pieces of work, shared out over the processes of a job, in which each process works as if it were alone.

Every piece is done whole by one process. Its result is therefore the one that a single process finds, bit for bit on
devices of the same kind with as many threads.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from letheon.core.errors import LetheonError
from letheon.core.processes import (
    forget_the_job,
    handle_signals,
    is_launched,
    number_of_process,
    process_count,
    restore_signals,
)
from letheon.core.tasks import automatic_precision
from letheon.core.variables import PRECISION

if TYPE_CHECKING:
    import torch

Made = TypeVar("Made")
# Longest wait of a process for the others. One that ends is noticed at once, by its closed connection.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Workers:
    """The processes of a job while each works alone; by default there is one.

    Attributes:
        rank: number of this process among `count`; process 0 writes and prints.
        group: what connects the processes; None for a single one.
    """

    rank: int = 0
    count: int = 1
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def share(self, pieces: Sequence[Callable[[], Made]], done: Callable[[int], None] | None = None) -> list[Made]:
        """Do every piece in one of the processes, and return the results of all pieces in each process.

        Process k does the pieces k, k + count, ... in this order, so the longest ones should stand first.

        Args:
            pieces: the same number of calls in every process.
            done: called with a piece's number when this process has done it.

        Raises:
            LetheonError: a piece failed; every process raises the error.
        """
        found: dict[int, Made] = {}
        failure: Exception | None = None
        try:
            for number in range(self.rank, len(pieces), self.count):
                found[number] = pieces[number]()
                if done is not None:
                    done(number)
        except Exception as error:
            if self.count == 1:
                raise
            failure = error
        if self.count == 1:
            return [found[number] for number in range(len(pieces))]
        return self._exchanged(found, failure, len(pieces))

    def _exchanged(self, found: dict[int, Made], failure: Exception | None, pieces: int) -> list[Made]:
        """Give every process the results of all; raise the first process's error in each."""
        import torch.distributed as dist

        told = failure
        if failure is not None and not isinstance(failure, LetheonError):
            told = LetheonError(f"{type(failure).__name__} in process {self.rank} of the job: {failure}")
        shares: list[Any] = [None] * self.count
        dist.all_gather_object(shares, (found, told), group=self.group)
        for rank, (_, error) in enumerate(shares):
            if error is not None:
                raise failure if rank == self.rank and failure is not None else error
        every = {number: made for share, _ in shares for number, made in share.items()}
        return [every[number] for number in range(pieces)]

    def from_main(self, make: Callable[[], Made]) -> Made:
        """Compute a value in process 0 and return it in every process."""
        return self.share([make])[0]


def connect(device: torch.device) -> None:
    """Connect the processes of the job for work on these devices, if they are not yet."""
    from accelerate import PartialState

    PartialState(cpu=device.type == "cpu")


ALONE = Workers()
_current = ALONE


def shares_work() -> bool:
    """Return whether this process is one of several in a block of `each_alone`."""
    return _current.count > 1


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """Let signals end the process while it waits for process 0 to connect: inside torch no handler of Python runs."""
    before = handle_signals(signal.SIG_DFL)
    try:
        yield
    finally:
        restore_signals(before)


@contextmanager
def each_alone() -> Iterator[Workers]:
    """Within the block, each process of a launched job works as if it were alone; the workers connect them.

    Trainings, devices and questions about the job then see one process. Every process of the job must enter the block.
    A block inside another one, or in a process that no launcher started, changes nothing.
    """
    global _current
    if not is_launched() or process_count() == 1:
        yield _current
        return
    import torch.distributed as dist

    rank, count, fresh = number_of_process(), process_count(), not dist.is_initialized()
    with _ended_at_once() if rank else nullcontext():
        if fresh:
            dist.init_process_group("gloo", timeout=PATIENCE)
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
    before, _current = _current, Workers(rank, count, group)
    numbers, measured = forget_the_job(), PRECISION not in os.environ
    try:
        os.environ.setdefault(PRECISION, _current.from_main(automatic_precision))  # measured once, for all
        yield _current
    finally:
        forget_the_job()  # what a training inside set up for one process
        if measured:
            os.environ.pop(PRECISION, None)
        os.environ |= numbers
        _current = before
    if fresh:
        dist.destroy_process_group()
