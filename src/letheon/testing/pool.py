"""Processes that stay: each call runs a function in all of them at once, connected by gloo."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Longest wait (seconds) of a process for the others.
PATIENCE = 60


class Processes:
    """The processes of one job, as a launcher would start them, which run one function after another.

    They come from a server that has the libraries loaded, so that each call costs the work alone. Where one fails, all
    are started anew at the next call.
    """

    def __init__(self, count: int = 2) -> None:
        self.count = count
        serves = "forkserver" in multiprocessing.get_all_start_methods()  # Windows has none
        self._context: Any = multiprocessing.get_context("forkserver" if serves else "spawn")
        self._context.set_forkserver_preload(
            ["letheon.testing", "transformers.models.llama.modeling_llama", "accelerate", "peft"]
        )
        self._members: list[tuple[Any, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Call a function of a module in all processes; return what it returned in each.

        Raises:
            RuntimeError: it failed; the message holds the traceback of each process that failed.
        """
        if not self._members:
            self._start()
        for _, connection in self._members:
            connection.send((function, arguments))
        answers = [self._answer(connection) for _, connection in self._members]
        failures = [text for text, _ in answers if text]
        if failures:
            self.end()
            raise RuntimeError("\n".join(failures))
        return [value for _, value in answers]

    def _answer(self, connection: Any) -> tuple[str, Any]:
        try:
            answer: tuple[str, Any] = connection.recv()
        except EOFError:
            return "a process ended", None
        return answer

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="letheon-processes-")
        for rank in range(self.count):
            mine, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_serve, args=(rank, self.count, Path(self._folder.name) / "meeting", theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._members.append((process, mine))

    def end(self) -> None:
        """End all processes."""
        for process, connection in self._members:
            connection.close()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        if self._members:
            self._folder.cleanup()
        self._members = []


def _serve(rank: int, count: int, meeting: Path, connection: Any) -> None:
    import torch

    from letheon.core.progress import be_quiet

    be_quiet()
    torch.set_num_threads(1)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    torch.distributed.init_process_group(
        "gloo",
        init_method=meeting.absolute().as_uri(),
        rank=rank,
        world_size=count,
        timeout=datetime.timedelta(seconds=PATIENCE),
    )
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("", function(*arguments)))
        except Exception:
            connection.send((f"process {rank}: {traceback.format_exc()}", None))
            return  # its end tells the other, which may wait for it
