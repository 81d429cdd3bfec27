"""Copies of the process: each piece is done once, errors and kills are told, and none outlives the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from torch import nn

from letheon.core import forks
from letheon.core.errors import InputError, LetheonError
from letheon.core.forks import Forks, forks_for
from letheon.core.workers import ALONE

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")


def power(base: torch.Tensor, exponent: int) -> tuple[torch.Tensor, int, int]:
    return base**exponent, os.getpid(), torch.get_num_threads()


def fail(error: Exception) -> None:
    raise error


@linux
def test_copies_do_each_piece_once_and_return_them_in_order() -> None:
    told: list[int] = []
    base = torch.arange(3.0)
    found = Forks(copies=2).share([partial(power, base, n) for n in range(5)], told.append)
    assert [made[0].tolist() for made in found] == [(base**n).tolist() for n in range(5)]
    assert sorted(told) == list(range(5))
    assert len({made[1] for made in found} - {os.getpid()}) == 2
    assert {made[2] for made in found} == {max(1, torch.get_num_threads() // 2)}


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
    with pytest.raises(LetheonError, match="ZeroDivisionError while measuring: by nought"):
        Forks().share([time.time, partial(fail, ZeroDivisionError("by nought"))])


@linux
def test_a_copy_that_is_killed_is_told() -> None:
    with pytest.raises(LetheonError, match="memory runs out"):
        Forks().share([lambda: os.kill(os.getpid(), signal.SIGKILL), time.time])


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
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    model = nn.Linear(2000, 2000)
    assert forks_for(model) == Forks(copies=4)
    assert forks_for(nn.Linear(2, 2)) is ALONE
    monkeypatch.setattr(forks, "LARGE", 1000)
    assert forks_for(model) is ALONE
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert forks_for(model) is ALONE
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert forks_for(model) is ALONE
    monkeypatch.setattr(sys, "platform", "darwin")
    assert forks_for(model) is ALONE
