"""Runs as tasks of a Ray cluster: a killed worker's run is continued, and the results are those of one job."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from letheon.compare.run import compare
from letheon.core.model.models import save_hash
from letheon.core.parallel import Parallel
from letheon.core.tasks import CHILD
from letheon.forget.request import Request

pytestmark = pytest.mark.slow
METHODS = ["grad_diff", "npo"]
OPTIONS: dict[str, Any] = {"steps": 60, "batch_size": 4, "precision": "float32", "checkpoint_steps": 1}


def kill_a_worker(out: Path, killed: list[int]) -> None:
    """Kill a Ray worker, once its run has taken ten steps (all runs have, so either will do)."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        steps = [len(metrics.read_bytes().splitlines()) for metrics in out.glob("*/lr-*/metrics.jsonl")]
        if len(steps) == len(METHODS) and min(steps) >= 10:
            children = [one for one in psutil.process_iter(["cmdline"]) if CHILD in (one.info["cmdline"] or [])]
            killed.append(children[0].ppid())
            psutil.Process(children[0].ppid()).kill()
            return
        time.sleep(0.02)


def test_a_killed_worker_is_retried_and_the_results_are_those_of_one_job(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given: dict[str, Any] = {"methods": METHODS, "budget": 0.01, "device": "cpu", **OPTIONS}
    single = compare("tiny", deletion, out=tmp_path / "one", **given)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "two", killed))
    killer.start()
    several = compare("tiny", deletion, out=tmp_path / "two", parallel=Parallel(jobs=2, ray="local"), **given)
    killer.join()
    assert killed
    assert [entry.error for entry in several.entries] == ["", ""]
    for one, other in zip(single.entries, several.entries, strict=True):
        assert one.numbers == other.numbers
        assert [attempt.scores for attempt in one.attempts] == [attempt.scores for attempt in other.attempts]
        assert one.chosen is not None
        folder = Path(one.chosen.folder) / "model"
        assert save_hash(tmp_path / "one" / folder) == save_hash(tmp_path / "two" / folder)
    # the run that was cut off went on from a checkpoint: no step was logged twice, and none is missing
    for metrics in (tmp_path / "two").glob("*/lr-*/metrics.jsonl"):
        assert len(metrics.read_bytes().splitlines()) == OPTIONS["steps"]
