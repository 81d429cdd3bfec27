"""An audit by two processes finds what one finds, also after `letheon forget`; an error of one is everybody's; what is
killed or stopped says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from letheon.audit.measuring import evaluate, proxy
from letheon.audit.plan import QUICK
from letheon.audit.record.record import Audit
from letheon.audit.run import audit
from letheon.core.errors import InputError, Interrupted
from letheon.core.model.models import LanguageModel, load
from letheon.core.processes import is_main_process, process_count
from letheon.core.training.finetuning import finetune
from letheon.core.training.signals import ECHO, ended_by_signals
from letheon.core.variables import PRECISION, STARTED_HERE
from letheon.core.workers import each_alone
from letheon.forget.request import Request
from letheon.jobs import forget as job
from letheon.jobs.options import MethodOptions, RequestFiles, RunFolders
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


@contextmanager
def in_parts() -> Iterator[pytest.MonkeyPatch]:
    """Rows are measured in several parts; the format of numbers is not what a busy machine finds faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PRECISION, "float32")
        patch.setattr(evaluate, "ROWS_AT_ONCE", 4)
        yield patch


def recorded() -> Audit:
    """A whole audit."""
    with in_parts():
        return audit("tiny", moved(0.01), sample_request(), reference=moved(0.02), judge=moved(0.0), device="cpu")


def without_times(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: without_times(value) for key, value in found.items() if key not in TIMES}
    return [without_times(one) for one in found] if isinstance(found, list) else found


@pytest.mark.slow
def test_two_processes_record_what_one_records(processes: Processes) -> None:
    one, two = recorded(), processes.run(recorded)
    assert two[0] == two[1], "every process has the record"
    assert without_times(two[0].model_dump(mode="json")) == without_times(one.model_dump(mode="json"))


def hash_of_proxy() -> tuple[str, int]:
    """The weights of a proxy reference that one of the processes trains, and how many trainings this one made."""
    trainings: list[Any] = []

    def counted(*given: Any, **named: Any) -> Any:
        trainings.append(given)
        return finetune(*given, **named)

    with in_parts() as patch, each_alone() as workers:
        patch.setattr(proxy, "finetune", counted)
        made = proxy.proxy_reference("tiny", sample_request(), proxy.Settings(epochs=1), device="cpu", workers=workers)
    return made.parameters_hash(), len(trainings)


def test_one_process_trains_the_proxy_of_all(processes: Processes) -> None:
    alone, _ = hash_of_proxy()
    assert processes.run(hash_of_proxy) == [(alone, 1), (alone, 0)]


def forgotten_and_audited(folder: Path) -> Audit | None:
    """A job of `letheon forget` with a small audit."""
    with in_parts() as patch:
        patch.setattr(job, "audit", partial(audit, settings=SMALL))
        patch.setattr(job, "leave_the_job", lambda: None)  # the processes serve other tests
        rows = RequestFiles(request=str(folder / "request.json"))
        given: dict[str, Any] = {"training": {"steps": 1, "learning_rate": 1e-3}, "device": "cpu"}
        method = MethodOptions("gradient_ascent")
        options = job.ForgetOptions("tiny", rows, method, folders=RunFolders(folder / "run"), **given)
        return job.forget_job(options).work().record


def test_the_audit_after_forgetting_is_shared_out_and_records_what_one_process_records(
    processes: Processes, tmp_path: Path
) -> None:
    whole = sample_request()
    replace(whole, forget=whole.forget[:3], retain=whole.retain[:3]).write(tmp_path / "request.json")
    two, other = processes.run(forgotten_and_audited, tmp_path)
    assert other is None, "process 0 writes"
    assert Audit.read(tmp_path / "run" / "audit.json") == two
    request = Request.read(tmp_path / "run" / "request.json")
    with in_parts():
        one = audit("tiny", tmp_path / "run" / "model", request, settings=SMALL, device="cpu")
    found, expected = (without_times(record.model_dump(mode="json")) for record in (two, one))
    assert found["models"][1].pop("name") == "tiny", "the model in memory"
    assert expected["models"][1].pop("name") == str(tmp_path / "run" / "model")
    for part in ("scope", "subject", "procedure", "output", "absent"):  # of the deletion, not measured
        found.pop(part), expected.pop(part)
    assert found == expected


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


def test_the_launch_ends_a_process_without_words_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hands a user's signals on as SIGINT; SIGTERM means that another process was killed, which it reports."""
    monkeypatch.setenv(STARTED_HERE, "1")
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGINT,SIGHUP,SIGQUIT")
    with pytest.raises(SystemExit) as ended, ended_by_signals("stopped", "go on"):
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 1
    with pytest.raises(Interrupted, match="stopped"), ended_by_signals("stopped", "go on"):
        signal.raise_signal(signal.SIGINT)


BUSY = """
import logging, time
from letheon.core.training.signals import ended_by_signals

logging.basicConfig(format="%(message)s")
with ended_by_signals("the work was stopped", "go on"):
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        print("ending", flush=True)
        time.sleep(60)
"""


@pytest.mark.slow
def test_a_second_signal_ends_at_once_what_the_first_has_not_ended() -> None:
    busy = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert busy.stdout is not None
    assert busy.stdout.readline() == "at work\n"
    busy.send_signal(signal.SIGINT)
    busy.send_signal(signal.SIGTERM)  # within the first one's second
    assert busy.stdout.readline() == "ending\n"
    time.sleep(ECHO + 0.2)
    assert busy.poll() is None
    busy.send_signal(signal.SIGINT)
    _, err = busy.communicate(timeout=20)
    assert busy.returncode == Interrupted.exit_code
    assert err == "error: the work was stopped\n       go on\n"


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


def wait_for_one(stored: Path, audited: subprocess.Popen[str]) -> None:
    """Wait until the model before has been examined."""
    deadline = time.monotonic() + 400
    while not list(stored.glob("*.json")) and audited.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert audited.poll() is None, audited.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_audit_that_is_stopped_says_what_is_kept_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    moved(0.01).save(tmp_path / "after")
    moved(0.02).save(tmp_path / "reference")
    audited = command(tmp_path, "--processes", "2")
    wait_for_one(tmp_path / "stored", audited)
    audited.send_signal(number)
    _, err = audited.communicate(timeout=120)
    assert audited.returncode == Interrupted.exit_code, err
    assert err.count("error: the audit was stopped; examinations") == 1, err
    assert "the same command goes on" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_stored_examinations_serve_the_next_audit(tmp_path: Path) -> None:
    moved(0.01).save(tmp_path / "after")
    moved(0.02).save(tmp_path / "reference")
    audited, stored = command(tmp_path, "--processes", "2"), tmp_path / "stored"
    wait_for_one(stored, audited)
    children = Path(f"/proc/{audited.pid}/task/{audited.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed = time.monotonic()
    _, err = audited.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert audited.returncode == 1, err
    assert err.count("error: ") == 1, err
    assert "was ended by SIGKILL" in err
    assert "Traceback" not in err
    assert not (tmp_path / "audit" / "audit.json").exists()
    first = {file: file.stat().st_mtime for file in stored.glob("*.json")}
    _, err = command(tmp_path, "--processes", "2").communicate(timeout=400)
    assert (tmp_path / "audit" / "audit.json").exists(), err
    assert first.items() <= {file: file.stat().st_mtime for file in stored.glob("*.json")}.items(), "examined again"
