"""Metrics are copied to a tracker as numbers alone, and an error in a tracker ends the copy and not the run."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from letheon.core import tracking
from letheon.core.errors import InputError
from letheon.core.runs import Run
from letheon.core.tracking import Tracking
from letheon.core.variables import TRACKER


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Put a module in trackio's place; return what it is called with."""
    calls: list[tuple[Any, ...]] = []
    module = ModuleType("trackio")
    module.init = lambda **given: calls.append(("init", given["name"]))  # type: ignore[attr-defined]
    module.log = lambda numbers, step: calls.append(("log", numbers, step))  # type: ignore[attr-defined]
    module.finish = lambda: calls.append(("finish",))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name == "trackio" or None)
    monkeypatch.setattr(tracking, "_open", tracking._Open())
    monkeypatch.setenv(TRACKER, "")  # what begin() sets is taken back
    return calls


def test_numbers_are_copied_and_texts_are_not(fake: list[tuple[Any, ...]], tmp_path: Path) -> None:
    first, second = (Run.create(tmp_path / name / "lr-1", {}) for name in ("npo", "rmu"))
    first.log(step=1, loss=1.0)
    assert not fake  # nobody asked for it
    Tracking("trackio").begin()
    first.log(step=2, loss=0.5, prompt="Who is Ann?", rows=["Ann"], done=True, tokens=7)
    second.log(step=1, loss=2.0)
    assert fake == [
        ("init", "npo-lr-1"),
        ("log", {"loss": 0.5, "tokens": 7.0}, 2),
        ("finish",),
        ("init", "rmu-lr-1"),
        ("log", {"loss": 2.0}, 1),
    ]


def test_wandb_uploads_neither_the_console_nor_the_source(
    fake: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it copies what is printed, which may be rows' texts, and the difference to the last commit."""
    given: dict[str, Any] = {}

    class Copy:
        def log(self, numbers: dict[str, float], step: int) -> None:
            fake.append((numbers, step))

        def finish(self) -> None: ...

    def init(**options: Any) -> Copy:
        given.update(options)
        return Copy()

    module = ModuleType("wandb")
    module.Settings, module.init = dict, init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name == "wandb" or None)
    Tracking("wandb").begin()
    Run.create(tmp_path / "run", {}).log(step=1, loss=2.0, prompt="Who is Ann?")
    assert fake == [({"loss": 2.0}, 1)]
    off = {"console": "off", "disable_git": True, "save_code": False, "disable_code": True}
    assert given["settings"].items() >= off.items()
    assert "config" not in given


def test_an_error_in_a_tracker_never_ends_a_run(
    fake: list[tuple[Any, ...]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("no such server")

    sys.modules["trackio"].log = broken  # type: ignore[attr-defined]
    Tracking("trackio").begin()
    run = Run.create(tmp_path / "run", {})
    for step in (1, 2):
        run.log(step=step, loss=1.0)
    assert len((tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert caplog.text.count("no longer copied to trackio") == 1  # said once


def test_a_tracker_that_is_not_installed_is_refused(fake: list[tuple[Any, ...]]) -> None:
    with pytest.raises(InputError, match="wandb is not installed"):
        Tracking("wandb").begin()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trackio", "tensorboard"])
def test_real_trackers_hold_the_numbers(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when trackio is imported
    monkeypatch.setenv(TRACKER, "")
    monkeypatch.setattr(tracking, "_open", tracking._Open())
    Tracking(name).begin()
    run = Run.create(tmp_path / "npo" / "lr-1", {})
    for step in (1, 2, 3):
        run.log(step=step, loss=1 / step, words="a secret")
    tracking._open.close()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"loss" in file.read_bytes() for file in files if file.name not in ("metrics.jsonl", "config.json"))
    assert not any(b"a secret" in file.read_bytes() for file in files if file.name != "metrics.jsonl")
    lines = (tmp_path / "npo/lr-1/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
