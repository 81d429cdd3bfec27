"""Tasks on a Ray cluster (extra `ray`) whose machines share the file system that the run folders lie in.

Each task runs in a child process, as on one machine. Ray starts the task of a killed worker again on another; the
function continues what it finds in the run folder. A Ray cluster runs the code of everybody who reaches it: use one
that is yours.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from letheon.core.errors import InputError
from letheon.core.progress import be_quiet, is_quiet
from letheon.core.tasks import Ended, Task, automatic_precision, environment, run_child

RETRIES = 3  # of a task whose worker was killed


def run_on_ray(tasks: Sequence[Task], address: str, jobs: int) -> dict[str, Ended]:
    """Run tasks on the cluster at an address and return how each ended, by name.

    Args:
        jobs: the most tasks at once; 1 fills the cluster.

    Raises:
        InputError: Ray is not installed, no cluster answers, or none of its machines can hold a task.
    """
    if find_spec("ray") is None:
        raise InputError("--ray needs Ray, which is not installed", "pip install 'letheon[ray]'")
    ray: Any = import_module("ray")

    variables = {name: os.environ[name] for name in ("PYTHONPATH", "OMP_WAIT_POLICY") if name in os.environ}
    try:
        ray.init(address=address, runtime_env={"env_vars": variables}, logging_level=logging.WARNING)
    except (ConnectionError, ValueError) as error:
        problem = f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}"
        raise InputError(problem, "start one with `ray start --head`, or give --ray local") from None
    try:
        resources = ray.cluster_resources()
        total = int(resources.get("CPU", 1))
        at_once = jobs if jobs > 1 else total
        nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
        gpus = int(max((node.get("GPU", 0) for node in nodes), default=0) >= 1)
        share = share_of(nodes, total // at_once, gpus)
        needed: dict[str, Any] = {"num_cpus": share, "num_gpus": gpus, "max_retries": RETRIES}
        remote = ray.remote(**needed)(_on_worker)
        own = environment(at_once, share, automatic_precision())
        return _gathered(ray, remote, tasks, own, at_once)
    finally:
        ray.shutdown()


def share_of(nodes: Sequence[Mapping[str, float]], wanted: int, gpus: int) -> int:
    """Return the cores of one task: as many as wanted, but no more than one machine has, which alone can hold a task.

    Args:
        nodes: the resources of each machine that is alive, by Ray's names.
        gpus: GPUs that each task takes; only machines that have them count.

    Raises:
        InputError: no machine has a whole core for a task.
    """
    largest = max((int(node.get("CPU", 0)) for node in nodes if node.get("GPU", 0) >= gpus), default=0)
    if largest < 1:
        problem = "no machine of the Ray cluster has a core" + (" beside a GPU" if gpus else "")
        raise InputError(problem, "start its machines with `ray start --num-cpus N`, N at least 1")
    return min(max(1, wanted), largest)


def _gathered(
    ray: Any, remote: Any, tasks: Sequence[Task], variables: dict[str, str], at_once: int
) -> dict[str, Ended]:
    """Hold `at_once` tasks on the cluster until all have ended."""
    waiting, running, ended = list(tasks), dict[Any, Task](), dict[str, Ended]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                task = waiting.pop(0)
                running[remote.remote(task, variables, os.getcwd(), is_quiet())] = task
            done, _ = ray.wait(list(running), num_returns=1)
            task = running.pop(done[0])
            try:
                ended[task.name] = ray.get(done[0])
            except ray.exceptions.RayError as error:
                ended[task.name] = Ended(problem=f"its worker was lost: {str(error).splitlines()[0]}")
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
    return {task.name: ended[task.name] for task in tasks}


def _on_worker(task: Task, variables: dict[str, str], folder: str, quiet: bool) -> Ended:
    """Run a task on a worker: its paths are those of the folder that the command was given in."""
    be_quiet(quiet)
    return run_child(task, variables, threading.Event(), folder)
