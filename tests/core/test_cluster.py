"""Runs as tasks of a Ray cluster: a killed worker's run is continued, and the results are those of one job."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest

from letheon.core.cluster import share_of
from letheon.core.errors import InputError
from letheon.core.parallel import Parallel, run_tasks
from letheon.core.tasks import CHILD, Task
from tests.core.tasks import forget_in

NAMES, STEPS = ("one", "two"), 60


def test_a_task_asks_for_no_more_cores_than_one_machine_has() -> None:
    """Ray would wait for ever for a machine that can hold a larger task."""
    nodes = [{"CPU": 4.0}, {"CPU": 16.0}, {"CPU": 8.0, "GPU": 2.0}]
    assert share_of(nodes, 28, gpus=0) == 16
    assert share_of(nodes, 28, gpus=1) == 8
    assert share_of(nodes, 3, gpus=0) == 3
    assert share_of(nodes, 0, gpus=0) == 1
    for refused, gpus in (([{"CPU": 4.0}, {"GPU": 1.0}], 1), ([{"CPU": 0.0}], 0), ([], 0)):
        with pytest.raises(InputError, match="has a core"):
            share_of(refused, 2, gpus)


def kill_a_worker(out: Path, killed: list[int]) -> None:
    """Kill a Ray worker, once both runs have taken three steps."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        steps = [len(metrics.read_bytes().splitlines()) for metrics in out.glob("*/metrics.jsonl")]
        if len(steps) == len(NAMES) and min(steps) >= 3:
            children = [one for one in psutil.process_iter(["cmdline"]) if CHILD in (one.info["cmdline"] or [])]
            killed.append(children[0].ppid())
            psutil.Process(children[0].ppid()).kill()
            return
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_worker_is_retried_and_the_results_are_those_of_one_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path, killed))
    killer.start()
    tasks = [
        Task(name, "tests.core.tasks:forget_in", {"folder": str(tmp_path / name), "steps": STEPS}) for name in NAMES
    ]
    ended = run_tasks(tasks, Parallel(jobs=2, ray="local"))
    killer.join()
    assert killed
    expected = forget_in(str(tmp_path / "alone"), STEPS)
    assert [(one.value, one.problem) for one in ended.values()] == [(expected, "")] * 2
    # the run that was cut off went on from a checkpoint: no step is logged twice, and none is missing
    for name in NAMES:
        assert len((tmp_path / name / "metrics.jsonl").read_bytes().splitlines()) == STEPS
