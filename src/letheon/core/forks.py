"""Copies of this process that share pieces of work out, where a processor's threads alone gain little.

The products of a small language model keep a few threads busy in part only: two processes with a thread each do more
than one process with two. On Linux a copy shares the model's memory with this process until it writes, which no piece
but a training does. A copy runs each of its pieces whole, in one thread, and none outlives this process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

import psutil
import torch
from torch import nn

from letheon.core.errors import LetheonError
from letheon.core.hardware import SMALL
from letheon.core.progress import be_quiet
from letheon.core.variables import THREADS
from letheon.core.workers import ALONE, Workers

Made = TypeVar("Made")
MOST = 4  # the longest piece of an examination is a third of it; more threads were not measured
HELD_BY_TRAINING = 4  # bytes beside each of a weight: the copy that relearning trains, its gradients, Adam's moments


def forks_for(model: nn.Module) -> Workers:
    """Return as many copies as a model on the processor can use, or this process alone.

    It is alone where processes cannot be copied safely (off Linux, beside an accelerator, in a thread, in a copy), and
    where memory does not hold a training in one copy and as much as the model in each.
    """
    threads, weights = torch.get_num_threads(), list(model.parameters())
    possible = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    if not possible or multiprocessing.current_process().daemon or torch.accelerator.is_available():
        return ALONE
    needed = (HELD_BY_TRAINING + threads) * sum(weight.numel() * weight.element_size() for weight in weights)
    small = sum(weight.numel() for weight in weights) < SMALL
    if not 2 <= threads <= MOST or small or needed > psutil.virtual_memory().available:
        return ALONE
    return Forks(copies=threads)


@dataclass(frozen=True)
class Forks(Workers):
    """Workers that are copies of this process, made for each list of pieces.

    Attributes:
        copies: largest number of copies at once.
    """

    copies: int = 2

    def share(self, pieces: Sequence[Callable[[], Made]], done: Callable[[int], None] | None = None) -> list[Made]:
        """Do every piece in one of the copies, each of which takes the next one when it is free.

        Raises:
            LetheonError: a piece failed, or a copy was killed.
        """
        if len(pieces) < 2:
            return super().share(pieces, done)
        found: dict[int, Made] = {}
        with _started(min(self.copies, len(pieces)), pieces) as idle:
            left, busy = iter(range(len(pieces))), dict[Connection, int]()
            while len(found) < len(pieces):
                for line in idle:
                    if (number := next(left, None)) is not None:
                        busy[line] = number
                        with suppress(ConnectionError):  # it was killed, which its line tells below
                            line.send(number)
                idle = [one for one in wait(list(busy)) if isinstance(one, Connection)]
                for line in idle:
                    number = busy.pop(line)
                    found[number] = _answer(line)
                    if done is not None:
                        done(number)
        return [found[number] for number in range(len(pieces))]


@contextmanager
def _started(count: int, pieces: Sequence[Callable[[], Any]]) -> Iterator[list[Connection]]:
    """Start copies, yield the connection to each, and end them."""
    context = multiprocessing.get_context("fork")
    lines, copies = list[Connection](), list[ForkProcess]()
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tokenizer's threads do not come along
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            copy = context.Process(target=_work, args=(theirs, pieces, os.getpid()), daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, whose work no copy goes on with
                copy.start()
            theirs.close()
            lines.append(ours)
            copies.append(copy)
        yield lines
    finally:
        for copy in copies:
            copy.kill()
        for copy in copies:
            copy.join()
        for line in lines:
            line.close()
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _answer(line: Connection) -> Any:
    """Return what a copy has made, or raise what it met."""
    try:
        made, error = line.recv()
    except (EOFError, ConnectionError):
        raise LetheonError(
            "a process that measured was killed, as happens where memory runs out",
            "close other programs, or set OMP_NUM_THREADS=1: a single process then needs the least memory",
        ) from None
    except Exception as met:
        raise LetheonError(f"what a process measured cannot be read: {type(met).__name__}: {met}") from met
    if error is not None:
        raise error
    return made


def _work(line: Connection, pieces: Sequence[Callable[[], Any]], parent: int) -> None:
    """Do the pieces that come by number, until this process is killed.

    It has one thread: OpenMP's other threads are not copied, and an operation that waits for them never ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what ends the first process ends its copies
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop(THREADS, None)
    torch.set_num_threads(1)
    be_quiet()
    with suppress(EOFError):
        while True:
            piece = pieces[line.recv()]
            try:
                line.send((piece(), None))
            except LetheonError as error:
                line.send((None, error))
            except BaseException as error:
                traceback.print_exc()
                line.send((None, LetheonError(f"{type(error).__name__} while measuring: {error}")))


def _end_with(parent: int) -> None:
    """End this process when the one that it is a copy of has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
