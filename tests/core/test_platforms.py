"""What other systems are like, simulated here: no POSIX modules, Windows's names, Apple's accelerator."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from letheon.core import atomic, hardware
from letheon.core.devices import check_device
from letheon.core.registry import methods
from letheon.core.runs import slug

# Modules of POSIX alone; a None makes `import` fail as it does where they are missing.
WITHOUT_POSIX = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
import letheon
"""
RUN = """
from pathlib import Path
from letheon.cli.app import app
from letheon.cli.verbs import VERBS, load_verb
from letheon.core.errors import InputError
from letheon.core.runs import Run
run = Run.create(Path(sys.argv[1]) / "run", {"kind": "trial"})
with run.lock():
    run.log(step=1)
    try:
        with run.lock():
            print("locked twice")
    except InputError as error:
        print(error.problem)
"""
IMPORTS = """
import importlib, pkgutil
optional = {"ray", "gguf"}
for module in pkgutil.walk_packages(letheon.__path__, "letheon."):
    if not module.name.startswith("letheon.page") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("imported")
"""


def python(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_is_locked_and_written_without_posix_modules(tmp_path: Path) -> None:
    assert python(WITHOUT_POSIX + RUN, str(tmp_path)).startswith("another process works on")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes().endswith(b'"step": 1}\n')


@pytest.mark.slow
def test_every_module_is_imported_without_posix_modules() -> None:
    """The site of the papers needs a POSIX shell, and says so."""
    assert python(WITHOUT_POSIX + IMPORTS).endswith("imported\n")


@pytest.mark.parametrize("name", ["npo:beta=0.1+geometric:mode=adam@lora", 'a<b>c"d|e?f*g\\h/i:j', "npo@layers=1-2"])
def test_a_method_s_folder_has_no_character_that_windows_reserves(name: str) -> None:
    assert not set(slug(name)) & set('<>:"/\\|?*')
    assert slug(name)[-1] not in ". "


def test_every_part_s_name_can_be_a_file_on_windows() -> None:
    reserved = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
    assert not {record.name.lower() for record in methods()} & reserved


def test_windows_opens_no_folder_and_has_no_glibc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        patch.setattr(os, "open", lambda *given: opened.append(given))
        atomic.fsync_folder(tmp_path)
    assert not opened
    hardware.keep_freed_memory.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setattr(hardware.ctypes, "CDLL", lambda _: pytest.fail("glibc was looked for"))
        assert hardware.keep_freed_memory() is False
    hardware.keep_freed_memory.cache_clear()


@pytest.mark.parametrize(("fallback", "words"), [("1", "does what mps lacks"), ("0", "MPS_FALLBACK is off")])
def test_apple_s_accelerator_is_found_takes_float32_and_says_once_what_falls_back(
    fallback: str, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mps = torch.device("mps")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: mps)
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", fallback)
    assert check_device("auto") == "mps"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert check_device("auto") == "mps", "there is one"
    assert hardware.resolve_precision("auto", mps) == "float32"
    hardware._say_mps.cache_clear()
    weight = SimpleNamespace(device=mps, numel=lambda: 2 * hardware.SMALL)
    with caplog.at_level(logging.WARNING, logger="letheon"):
        for _ in range(2):
            hardware.suit(SimpleNamespace(parameters=lambda: iter([weight])))  # type: ignore[arg-type]  # all it reads
    hardware._say_mps.cache_clear()
    assert [words in record.getMessage() for record in caplog.records] == [True]


def test_other_work_on_the_processor_does_not_decide_about_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the calling thread's time is read."""
    hardware.matmul_speed.cache_clear()
    monkeypatch.setattr(hardware, "time", SimpleNamespace(thread_time=time.thread_time))  # it has no other clock
    assert hardware.matmul_speed(torch.float32, seconds=0.01) > 0
    hardware.matmul_speed.cache_clear()


def test_a_clock_that_goes_by_ticks_measures_a_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = 1 / 64
    ticking = SimpleNamespace(thread_time=lambda: time.thread_time() // tick * tick)
    hardware.matmul_speed.cache_clear()
    monkeypatch.setattr(hardware, "time", ticking)
    by_ticks = hardware.matmul_speed(torch.float32)
    hardware.matmul_speed.cache_clear()
    monkeypatch.undo()
    assert by_ticks == pytest.approx(hardware.matmul_speed(torch.float32), rel=0.9)
    hardware.matmul_speed.cache_clear()
