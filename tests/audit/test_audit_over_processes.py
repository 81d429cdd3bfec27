"""An audit by two processes finds what one finds; an error of one is everybody's; a killed one ends the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from letheon.audit.measuring import evaluate
from letheon.audit.plan import QUICK, Settings
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.processes import is_main_process, process_count
from letheon.core.workers import each_alone
from letheon.testing import sample_request
from letheon.testing.pool import Processes

TIMES = ("seconds", "started", "fixed_at", "received")
SMALL = replace(QUICK, relearn_steps=1, max_new_tokens=2, attack_rows=1, general_texts=1, control_rows=2)


def moved(size: float) -> LanguageModel:
    """The tiny model with noise on its weights."""
    model, noise = load("tiny", device="cpu"), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=noise))
    return model


def recorded(extent: Settings) -> Audit:
    """An audit that measures rows in several parts; a whole one has a reference."""
    whole = sample_request()
    request = whole if extent.thorough else replace(whole, forget=whole.forget[:3], retain=whole.retain[:3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "ROWS_AT_ONCE", 4)
        given: dict[str, Any] = {"judge": moved(0.0), "settings": extent, "device": "cpu"}
        return audit("tiny", moved(0.01), request, reference=moved(0.02) if extent.thorough else None, **given)


def without_times(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: without_times(value) for key, value in found.items() if key not in TIMES}
    return [without_times(one) for one in found] if isinstance(found, list) else found


@pytest.mark.parametrize("extent", [SMALL, pytest.param(Settings(), marks=pytest.mark.slow)], ids=["small", "whole"])
def test_two_processes_record_what_one_records(extent: Settings, processes: Processes) -> None:
    one, two = recorded(extent), processes.run(recorded, extent)
    assert two[0] == two[1], "every process has the record"
    assert without_times(two[0].model_dump(mode="json")) == without_times(one.model_dump(mode="json"))


def shared_out(failing: int) -> str:
    """Five pieces over the processes, of which one may fail; each sees itself alone."""
    done: list[int] = []

    def piece(number: int) -> int:
        assert (is_main_process(), process_count()) == (True, 1)
        if number == failing:
            raise InputError(f"piece {number} failed", "")
        done.append(number)
        return number * number

    with each_alone() as workers:
        try:
            found = workers.share([lambda n=n: piece(n) for n in range(5)])  # type: ignore[misc]  # bound here
        except InputError as error:
            return error.problem
        with each_alone() as inside:
            assert inside is workers
    assert process_count() == 2
    return f"{done} {found}"


def test_each_piece_is_done_once_and_its_error_is_everybodys(processes: Processes) -> None:
    assert processes.run(shared_out, -1) == ["[0, 2, 4] [0, 1, 4, 9, 16]", "[1, 3] [0, 1, 4, 9, 16]"]
    assert processes.run(shared_out, 3) == ["piece 3 failed", "piece 3 failed"]


def command(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """`letheon audit` on the sample request."""
    sample_request().write(tmp_path / "request.json")
    given = f"audit tiny {tmp_path}/after --request request.json --reference {tmp_path}/reference --device cpu --quick"
    return subprocess.Popen(
        [sys.executable, "-m", "letheon", *given.split(), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "LETHEON_EXAMINATIONS": str(tmp_path / "stored"), "XDG_CACHE_HOME": str(tmp_path)},
    )


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_stored_examinations_serve_the_next_audit(tmp_path: Path) -> None:
    moved(0.01).save(tmp_path / "after")
    moved(0.02).save(tmp_path / "reference")
    job, stored = command(tmp_path, "--processes", "2"), tmp_path / "stored"
    deadline = time.monotonic() + 400
    while not list(stored.glob("*.json")) and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert job.poll() is None, job.communicate()
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed = time.monotonic()
    _, err = job.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert job.returncode == 1, err
    assert err.count("error: ") == 1, err
    assert "was ended by SIGKILL" in err
    assert "Traceback" not in err
    assert not (tmp_path / "audit" / "audit.json").exists()
    first = {file: file.stat().st_mtime for file in stored.glob("*.json")}
    _, err = command(tmp_path, "--processes", "2").communicate(timeout=400)
    assert (tmp_path / "audit" / "audit.json").exists(), err
    assert first.items() <= {file: file.stat().st_mtime for file in stored.glob("*.json")}.items(), "examined again"
