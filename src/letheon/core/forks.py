"""Copies of this process that share pieces of work out, where a processor's threads alone gain little.

The products of a small language model keep a few threads busy in part only: two processes with a thread each do more
than one process with two. On Linux a copy shares the model's memory with this process until it writes, which no piece
but a training does. A copy runs each of its pieces whole, and none outlives this process.
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

import torch
from torch import nn

from letheon.core.errors import LetheonError
from letheon.core.hardware import SMALL
from letheon.core.progress import be_quiet
from letheon.core.workers import ALONE, Workers

Made = TypeVar("Made")
MOST = 4  # the longest piece of an examination is a third of it
LARGE = 2_000_000_000  # weights of a model whose products keep all threads busy


def forks_for(model: nn.Module) -> Workers:
    """Return as many copies as a model on the processor can use, or this process alone.

    It is alone where processes cannot be copied safely: off Linux, beside an accelerator, or in a thread.
    """
    threads = torch.get_num_threads()
    possible = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    weights = sum(parameter.numel() for parameter in model.parameters())
    if threads < 2 or not possible or torch.accelerator.is_available() or not SMALL <= weights < LARGE:
        return ALONE
    return Forks(copies=min(threads, MOST))


@dataclass(frozen=True)
class Forks(Workers):
    """Workers that are copies of this process, made for each list of pieces.

    Attributes:
        copies: largest number of copies at once; they share this process's threads.
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
                        line.send(number)
                        busy[line] = number
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
    threads, lines, copies = max(1, torch.get_num_threads() // count), list[Connection](), list[ForkProcess]()
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the tokenizer's threads do not come along
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            copy = context.Process(target=_work, args=(theirs, pieces, threads, os.getpid()), daemon=True)
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
    except EOFError:
        raise LetheonError(
            "a process that measured was killed, as happens where memory runs out",
            "close other programs, or set OMP_NUM_THREADS=1: a single process then needs the least memory",
        ) from None
    if error is not None:
        raise error
    return made


def _work(line: Connection, pieces: Sequence[Callable[[], Any]], threads: int, parent: int) -> None:
    """Do the pieces that come by number, until this process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what ends the first process ends its copies
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    be_quiet()
    with suppress(EOFError):
        while True:
            piece = pieces[line.recv()]
            try:
                line.send((piece(), None))
            except LetheonError as error:
                line.send((None, error))
            except Exception as error:
                traceback.print_exc()
                line.send((None, LetheonError(f"{type(error).__name__} while measuring: {error}")))


def _end_with(parent: int) -> None:
    """End this process when the one that it is a copy of has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
