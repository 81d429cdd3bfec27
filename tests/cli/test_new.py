"""`letheon new`: what it writes passes the linter, its own oracle and the battery untouched; it overwrites nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.jobs.new import PLACES, write_new

ROOT = Path(__file__).parents[2]


def run(*command: str, folder: Path) -> str:
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kind_passes_the_linter_its_oracle_and_the_battery(tmp_path: Path) -> None:
    for kind in PLACES:
        write_new(kind, f"my_{kind}", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * len(PLACES)
    run("ruff", "check", "--select", "E,F,I,UP,B", "--ignore", "F722", "--line-length", "120", ".", folder=tmp_path)
    shown = run("pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", ".", folder=tmp_path)
    assert "passed" in shown
    assert "skipped" not in shown


def test_in_a_checkout_the_files_go_to_the_folders_of_their_kind(tmp_path: Path) -> None:
    for kind, (place, _) in PLACES.items():
        (tmp_path / "src" / "letheon" / place).mkdir(parents=True)
        written = write_new(kind, "shorter", tmp_path)
        file, test = written.file, written.test
        assert file == tmp_path / "src" / "letheon" / place / "shorter.py"
        assert f"from letheon.{place.replace('/', '.')}.shorter import" in test.read_text()
        file.rename(file.with_name("shorter_" + kind + ".py"))
        test.rename(test.with_name(f"test_{kind}.py"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    first_party = 'lint.isort.known-first-party=["letheon"]'  # this checkout lacks the package's own files
    run("ruff", "check", "--config", first_party, ".", folder=tmp_path)
    run("ruff", "format", "--check", ".", folder=tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "problem"),
    [
        ("objectve", "mine", "no kind 'objectve'"),
        ("objective", "My-Loss", "name 'My-Loss'"),
        ("update", "npo", "'npo' exists already"),
        ("paper", "kuda", "'kuda' exists already"),
        ("scope", "here", "exists"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_written(
    kind: str, name: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "test_here.py").write_text("mine")
    with pytest.raises(InputError, match=problem):
        write_new(kind, name, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["test_here.py"]
    assert (tmp_path / "test_here.py").read_text() == "mine"
