"""Runs as tasks of a Ray cluster: a killed worker's run is continued, and the results are those of one job."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest

from letheon.core.parallel import Parallel, run_tasks
from letheon.core.tasks import CHILD, Task
from tests.core.tasks import forget_in

pytestmark = pytest.mark.slow
NAMES, STEPS = ("one", "two"), 60


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
