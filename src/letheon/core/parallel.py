"""Several runs at once: each task is a process of its own, on this machine or as a task of a Ray cluster.

A task names a function and gives it values that JSON can express; the function works in run folders. A caller lets the
tasks fill the folders and then goes through them as if it had done the work itself, so the result is that of one run
after the other. A task that fails is reported, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

from letheon.core.cluster import run_on_ray
from letheon.core.errors import InputError, Interrupted
from letheon.core.tasks import Ended, Task, automatic_precision, environment, run_child


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


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(tasks: Sequence[Task], parallel: Parallel) -> dict[str, Ended]:
    """Run all tasks and return how each ended, by name.

    Raises:
        Interrupted: stopped by a signal; every process was ended, and what they wrote stays.
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    if not tasks:
        return {}
    with _signals_interrupt():
        try:
            if parallel.ray:
                return run_on_ray(tasks, parallel.ray, parallel.jobs)
            return _run_here(tasks, parallel.jobs)
        except KeyboardInterrupt:
            raise Interrupted("stopped; finished runs are kept", "the same command goes on from there") from None


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
            if not gpus:
                return run_child(task, variables, stopped)
            own, gpu = on_gpu(task, gpus, slot)
            return run_child(own, {**variables, "CUDA_VISIBLE_DEVICES": gpu}, stopped)
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


def on_gpu(task: Task, gpus: Sequence[str], slot: int) -> tuple[Task, str]:
    """Return a task as its child must see it, and the one GPU that the child sees: `cuda:N` here is no number there.

    A task for `cuda:N` gets the N-th GPU, every other the GPU of its slot.
    """
    device = str(task.arguments.get("device", ""))
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return task, gpus[slot % len(gpus)]
    gpu = gpus[int(number)] if number.isdecimal() and int(number) < len(gpus) else gpus[slot % len(gpus)]
    return replace(task, arguments={**task.arguments, "device": "auto"}), gpu


def _gpus() -> list[str]:
    """Return the names of the GPUs as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM interrupt like Ctrl-C while the block runs, so that no child is left behind."""
    before: Any = None
    with contextlib.suppress(ValueError):  # not the main thread: leave signals alone
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
