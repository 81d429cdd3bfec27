"""CONTRIBUTING.md: every Python block runs, in order, each as a module of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from letheon.core import registry

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8"), re.S)


@pytest.mark.usefixtures("unchecked_shapes")
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.methods()  # the examples join the registered methods for the length of this test
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    monkeypatch.syspath_prepend(str(tmp_path))
    for number, block in enumerate(BLOCKS):
        name = f"contributed_{number}"
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
        __import__(name)
        monkeypatch.delitem(sys.modules, name)
    assert len(BLOCKS) >= 9
