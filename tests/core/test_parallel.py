"""Several runs at once: values, failures, threads, GPUs, interruption, and children that never outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from letheon.core import parallel
from letheon.core.errors import InputError
from letheon.core.parallel import ALONE, Parallel, on_gpu, run_tasks
from letheon.core.progress import be_quiet
from letheon.core.tasks import Ended, Task

TASKS = "tests.core.tasks"


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "automatic_precision", lambda: "float32")


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return "State:\tZ" in Path(f"/proc/{process}/status").read_text(encoding="utf-8")


def wait_for(condition: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


def test_a_task_that_fails_is_reported_and_the_others_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    tasks = [
        Task("dies", f"{TASKS}:die"),
        Task("refuses", f"{TASKS}:refuse"),
        Task("works", f"{TASKS}:double", {"number": 21}),
    ]
    be_quiet(False)
    try:
        ended = run_tasks(tasks, Parallel(jobs=2))
    finally:
        be_quiet()
    assert list(ended) == ["dies", "refuses", "works"]
    assert ended["dies"] == Ended(None, "its process ended with code 9: the last words")
    assert ended["refuses"] == Ended(None, "this is refused")
    assert ended["works"] == Ended(42)
    lines = capfd.readouterr().err.splitlines()
    assert "[works] a line on standard output" in lines
    assert "[dies] the last words" in lines


def test_each_child_has_its_share_of_the_cores_and_a_gpu_by_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 6)
    monkeypatch.setattr(parallel, "_gpus", lambda: ["4", "7"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tasks = [Task(str(number), f"{TASKS}:variables") for number in range(2)]
    seen = [one.value for one in run_tasks(tasks, Parallel(jobs=2)).values()]
    assert {one["OMP_NUM_THREADS"] for one in seen} == {"3"}
    assert {one["CUDA_VISIBLE_DEVICES"] for one in seen} == {"4", "7"}
    assert {(one["LETHEON_JOBS"], one["LETHEON_PRECISION"]) for one in seen} == {("2", "float32")}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # the user's own number stays
    assert "OMP_NUM_THREADS" not in parallel.environment(2, 3, "float32")


def test_a_device_with_a_number_is_that_of_the_parent() -> None:
    """The child sees one GPU, which is `cuda:0` for it whatever its number is here."""
    task = Task("one", "module:name", {"device": "cuda:1", "seed": 3})
    assert on_gpu(task, ["4", "7"], 0) == (Task("one", "module:name", {"device": "auto", "seed": 3}), "7")
    for device in ("cpu", "auto"):
        other = Task("one", "module:name", {"device": device})
        assert on_gpu(other, ["4", "7"], 3) == (other, "7")
    plain = Task("one", "module:name")
    assert on_gpu(plain, ["4", "7"], 2) == (plain, "4")


def test_bad_numbers_and_missing_ray_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ALONE.several
    with pytest.raises(InputError, match="--jobs 0"):
        Parallel(jobs=0)
    monkeypatch.setattr("letheon.core.cluster.find_spec", lambda _: None)
    with pytest.raises(InputError, match="not installed"):
        run_tasks([Task("one", f"{TASKS}:double", {"number": 1})], Parallel(ray="auto"))


# A shell starts commands in the background with SIGINT ignored, which children inherit: the program takes it back.
PROGRAM = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from letheon.core import parallel
from letheon.core.tasks import Task
parallel.automatic_precision = lambda: "float32"
parallel._gpus = list
tasks = [Task(name, "{TASKS}:sleep", {{"folder": sys.argv[1], "name": name}}) for name in "ab"]
parallel.run_tasks(tasks, parallel.Parallel(jobs=2))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_child_outlives_its_parent(number: str, tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    words = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    parent = subprocess.Popen(words, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: all(file.is_file() and file.read_text(encoding="utf-8") for file in files))
    parent.send_signal(getattr(signal, number))
    _, said = parent.communicate(timeout=30)
    children = [int(file.read_text(encoding="utf-8")) for file in files]
    wait_for(lambda: all(gone(child) for child in children), 10)
    if number != "SIGKILL":
        assert "Interrupted: stopped; finished runs are kept" in said
