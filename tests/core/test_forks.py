"""Copies of the process: each piece is done once, errors and kills are told, and none outlives the process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.context import ForkProcess
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from letheon.core.errors import InputError, LetheonError
from letheon.core.forks import Forks, forks_for
from letheon.core.workers import ALONE

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")


def power(base: torch.Tensor, exponent: int) -> tuple[torch.Tensor, int, int]:
    return base**exponent, os.getpid(), torch.get_num_threads()


def copies_left() -> list[object]:
    return [one for one in multiprocessing.active_children() if isinstance(one, ForkProcess)]


def fail(error: BaseException) -> None:
    raise error


def die_soon(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


class Odd(LetheonError):
    def __init__(self, problem: str, more: str) -> None:
        super().__init__(problem)
        self.more = more


@linux
def test_copies_do_each_piece_once_and_return_them_in_order() -> None:
    told: list[int] = []
    base = torch.arange(3.0)
    found = Forks(copies=2).share([partial(power, base, n) for n in range(5)], told.append)
    assert [made[0].tolist() for made in found] == [(base**n).tolist() for n in range(5)]
    assert sorted(told) == list(range(5))
    assert len({made[1] for made in found} - {os.getpid()}) == 2
    assert {made[2] for made in found} == {1}
    assert not copies_left()


@linux
def test_what_a_copy_changes_stays_in_the_copy() -> None:
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    Forks().share([lambda: layer.weight.data.zero_().sum().item(), lambda: layer.weight.sum().item()])
    assert torch.equal(layer.weight, before)


@linux
def test_an_error_of_a_piece_is_raised_with_its_remedy() -> None:
    with pytest.raises(InputError, match="no such row") as met:
        Forks().share([partial(fail, InputError("no such row", "give another")), time.time])
    assert met.value.remedy == "give another"
    for error in (ZeroDivisionError("by nought"), SystemExit("by nought")):
        with pytest.raises(LetheonError, match=f"{type(error).__name__} while measuring: by nought"):
            Forks().share([time.time, partial(fail, error)])
    with pytest.raises(LetheonError, match="cannot be read: TypeError"):
        Forks().share([time.time, partial(fail, Odd("what", "and what more"))])
    assert not copies_left()


@linux
@pytest.mark.parametrize("given", [None, "true"])
def test_the_environment_is_what_it_was(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TOKENIZERS_PARALLELISM"
    monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv(name, given)
    assert Forks().share([partial(os.environ.get, name), partial(os.environ.get, "OMP_NUM_THREADS")]) == ["false", "1"]
    assert os.environ.get(name) == given


@linux
def test_copies_do_not_wait_for_threads_that_have_not_come_along() -> None:
    code = """
import torch
from letheon.core.forks import Forks
torch.set_num_threads(4)
def product():
    square = torch.randn(400, 400)
    for _ in range(3):
        square = torch.tanh(square @ square)
    return torch.get_num_threads()
product()
print(Forks(copies=2).share([product, product]))
"""
    settings = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout.strip() == "[1, 1]"


@linux
def test_a_copy_that_is_killed_is_told() -> None:
    with pytest.raises(LetheonError, match="memory runs out"):
        Forks().share([lambda: os.kill(os.getpid(), signal.SIGKILL), time.time])
    with pytest.raises(LetheonError, match="memory runs out"):  # it dies between two pieces
        Forks(copies=1).share([partial(die_soon, 0.2), partial(time.sleep, 0.5), time.time])


@linux
def test_no_copy_outlives_the_process(tmp_path: os.PathLike[str]) -> None:
    code = f"""
import os, time
from pathlib import Path
from letheon.core.forks import Forks
def piece():
    Path({str(tmp_path)!r}, str(os.getpid())).touch()
    time.sleep(60)
Forks().share([piece, piece])
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 60
    while len(os.listdir(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    copies = [int(name) for name in os.listdir(tmp_path)]
    process.kill()
    process.wait()
    while any(os.path.exists(f"/proc/{copy}") for copy in copies) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(copies) == 2
    assert not any(os.path.exists(f"/proc/{copy}") for copy in copies)


def test_one_process_works_alone_where_copies_would_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(count: int) -> None:
        monkeypatch.setattr(torch, "get_num_threads", lambda: count)

    threads(3)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    model = nn.Linear(2000, 2000)
    assert forks_for(model) == Forks(copies=3)
    assert forks_for(nn.Linear(2, 2)) is ALONE
    for count in (1, 5):
        threads(count)
        assert forks_for(model) is ALONE
    threads(2)
    assert forks_for(model) == Forks(copies=2)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(forks_for, model).result() is ALONE
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1e8))
        assert forks_for(model) == Forks(copies=2)
        patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=9e7))
        assert forks_for(model) is ALONE  # six times 16 MB
    with monkeypatch.context() as patch:
        patch.setattr(torch.accelerator, "is_available", lambda: True)
        assert forks_for(model) is ALONE
    monkeypatch.setattr(sys, "platform", "darwin")
    assert forks_for(model) is ALONE


@linux
def test_a_copy_makes_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert Forks().share([partial(forks_for, nn.Linear(2000, 2000)), time.time])[0] == ALONE
