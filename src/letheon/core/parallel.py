"""Several runs at once: each task is a process of its own, on this machine or as a task of a Ray cluster.

A task names a function and gives it values that JSON can express; the function works in run folders. A caller lets the
tasks fill the folders and then goes through them as if it had done the work itself, so the result is that of one run
after the other. A task that fails is reported, and the others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

from letheon.core.errors import InputError, Interrupted
from letheon.core.progress import is_quiet
from letheon.core.tracking import VARIABLE as TRACKER

CHILD = "letheon.core.child"
JOBS, THREADS, PRECISION = "LETHEON_JOBS", "LETHEON_THREADS", "LETHEON_PRECISION"  # variables that a child reads
PATIENCE = 30.0  # seconds in which a child may save its state after it was asked to stop


@dataclass(frozen=True)
class Parallel:
    """How many runs go on at once, and where.

    Attributes:
        jobs: runs at once, each in a process of its own with its share of the cores and a GPU of its own where there
            are several. With --ray, the most tasks at once; 1 fills the cluster.
        ray: address of a Ray cluster whose machines share this file system (`auto` is the one running here, `local`
            starts one): every run is a task there. Needs the extra `ray`.
    """

    jobs: int = 1
    ray: str = ""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InputError(f"--jobs {self.jobs}", "give 1 or more")

    @property
    def several(self) -> bool:
        """Whether runs are processes of their own."""
        return self.jobs > 1 or bool(self.ray)


ALONE = Parallel()  # one run after the other, in this process


@dataclass(frozen=True)
class Task:
    """A function call in a process of its own.

    Attributes:
        name: stands before the lines that the process prints.
        function: `module:name` of the function.
        arguments: keyword arguments that JSON can express.
    """

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """The end of a task: the function's value, or the problem that ended it (empty where it ended well)."""

    value: Any = None
    problem: str = ""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(tasks: Sequence[Task], parallel: Parallel) -> dict[str, Ended]:
    """Run all tasks and return how each ended, by name.

    Raises:
        Interrupted: stopped by a signal; every process was ended, and what they wrote stays.
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    with _signals_interrupt():
        try:
            if parallel.ray:
                from letheon.core.cluster import run_on_ray

                return run_on_ray(tasks, parallel)
            return _run_here(tasks, parallel.jobs)
        except KeyboardInterrupt:
            raise Interrupted("stopped; finished runs are kept", "the same command goes on from there") from None


def environment(jobs: int, threads: int, precision: str) -> dict[str, str]:
    """Return the variables of a child; a number of threads that the user set stays."""
    variables = {JOBS: str(jobs), PRECISION: precision}
    variables |= {name: os.environ[name] for name in (TRACKER,) if name in os.environ}
    if "OMP_NUM_THREADS" not in os.environ or THREADS in os.environ:
        variables |= {"OMP_NUM_THREADS": str(threads), THREADS: str(threads)}
    return variables


def automatic_precision() -> str:
    """Return what `precision="auto"` is on this processor; children that measured it would disturb each other."""
    import torch

    from letheon.core.hardware import resolve_precision

    return resolve_precision("auto", torch.device("cpu"))


def _run_here(tasks: Sequence[Task], jobs: int) -> dict[str, Ended]:
    jobs = max(1, min(jobs, len(tasks)))
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(jobs):
        slots.put(number)
    variables = environment(jobs, max(1, cores() // jobs), automatic_precision())
    gpus = _gpus()
    stopped = threading.Event()

    def work(task: Task) -> Ended:
        if stopped.is_set():
            return Ended(problem="not begun")
        slot = slots.get()
        try:
            own = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
            return run_child(task, {**variables, **own}, stopped)
        finally:
            slots.put(slot)

    ended = {}
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(work, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                ended[futures[future].name] = future.result()
        finally:
            stopped.set()
    return {task.name: ended[task.name] for task in tasks}


def _gpus() -> list[str]:
    """Return the names of the GPUs as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def run_child(task: Task, variables: Mapping[str, str], stopped: threading.Event, folder: str | None = None) -> Ended:
    """Run a task in a child process, in `folder`, and wait for it; end the child when `stopped` is set.

    The child reads the task as one line and ends when its standard input does, so it never outlives this process.
    """
    # a group of its own, so that Ctrl-C reaches this process alone, which then asks every child once
    group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {"creationflags": 0x200}
    process = subprocess.Popen(
        [sys.executable, "-m", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **variables, "PYTHONIOENCODING": "utf-8"},
        cwd=folder,
        **group,
    )
    lines: list[str] = []
    reader = threading.Thread(target=_relay, args=(process, task.name, lines), daemon=True)
    try:
        reader.start()
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it ended at once: its exit code says more
            process.stdin.write(json.dumps({**asdict(task), "quiet": is_quiet()}) + "\n")
            process.stdin.flush()
        answers: list[str] = []
        listener = threading.Thread(target=_listen, args=(process, answers), daemon=True)
        listener.start()
        while process.poll() is None and not stopped.wait(0.05):
            pass
    finally:
        _end(process)
    listener.join()
    reader.join()
    return _ended(process.returncode, answers[0], lines)


def _listen(process: subprocess.Popen[str], answers: list[str]) -> None:
    assert process.stdout is not None
    answers.append(process.stdout.read())


def _relay(process: subprocess.Popen[str], name: str, lines: list[str]) -> None:
    """Print the child's lines with its name before each, and hold the last ones."""
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line.rstrip())
        del lines[:-5]
        if not is_quiet():
            print(f"[{name}] {line.rstrip()}", file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask a child to stop (a training saves its state first), and kill it if it has not after a while."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _ended(code: int, answer: str, lines: Sequence[str]) -> Ended:
    try:
        said = json.loads(answer)
    except json.JSONDecodeError:
        last = next((line for line in reversed(lines) if line), "")
        return Ended(problem=f"its process ended with code {code}{': ' if last else ''}{last}")
    return Ended(said.get("value"), said.get("problem", ""))


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM interrupt like Ctrl-C while the block runs, so that no child is left behind."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before: Callable[[int, FrameType | None], Any] | int | None = None
    with contextlib.suppress(ValueError):  # not the main thread: leave signals alone
        before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
