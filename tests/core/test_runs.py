"""Files and folders appear whole or not at all; runs hold their settings and one process."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.core import runs
from letheon.core.atomic import (
    MANIFEST,
    atomic_folder,
    atomic_write_text,
    canonical_hash,
    is_whole,
    plain,
    read_json,
    sha256_of,
    write_json,
)
from letheon.core.errors import InputError, LetheonError
from letheon.core.runs import Run


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("point", ["fsync", "replace", "chmod"])
def test_a_disk_that_fails_at_any_point_leaves_the_old_file(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.txt"
    atomic_write_text(file, "old")
    monkeypatch.setattr(os, point, full_disk)
    with pytest.raises(LetheonError, match=r"could not write .*No space left"):
        atomic_write_text(file, "new")
    assert file.read_text() == "old"
    assert not leftovers(tmp_path)


def test_a_write_that_ends_half_way_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file.txt"
    atomic_write_text(file, "old")
    original = os.fdopen

    def half(*arguments: Any, **options: Any) -> Any:
        opened = original(*arguments, **options)
        write = opened.write

        class Half:
            def __enter__(self) -> Half:
                return self

            def __exit__(self, *_: object) -> None:
                opened.close()

            def write(self, content: bytes) -> None:
                write(content[: len(content) // 2])
                full_disk()

        return Half()

    monkeypatch.setattr(os, "fdopen", half)
    with pytest.raises(LetheonError):
        atomic_write_text(file, "new and longer")
    assert file.read_text() == "old"
    assert not leftovers(tmp_path)


def test_a_file_is_written_into_folders_that_do_not_exist_yet(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"x": 1})
    assert read_json(tmp_path / "a" / "b.json") == {"x": 1}


# Folders ------------------------------------------------------------------------------------------------------------


def fill(folder: Path, text: str, before_end: Callable[[], None] = lambda: None) -> None:
    with atomic_folder(folder) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "one.txt").write_text(text)
        (temporary / "inner" / "two.txt").write_text(text * 2)
        before_end()


def test_a_folder_appears_with_a_manifest_of_its_files(tmp_path: Path) -> None:
    fill(tmp_path / "kept", "abc")
    manifest = json.loads((tmp_path / "kept" / MANIFEST).read_text())
    assert manifest["one.txt"] == {"bytes": 3, "sha256": sha256_of(tmp_path / "kept" / "one.txt")}
    assert set(manifest) == {"one.txt", "inner/two.txt"}
    assert is_whole(tmp_path / "kept", hashes=True)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("point", ["fsync", "replace", "chmod"])
def test_a_folder_that_cannot_be_finished_leaves_the_old_one(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "kept", "old")
    with monkeypatch.context() as patch, pytest.raises(LetheonError, match="could not write"):
        fill(tmp_path / "kept", "new", before_end=lambda: patch.setattr(os, point, full_disk))
    assert (tmp_path / "kept" / "one.txt").read_text() == "old"
    assert is_whole(tmp_path / "kept", hashes=True)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("failing", [1, 2, 3])  # the manifest, the old folder aside, the new one into its place
def test_a_rename_that_fails_leaves_the_old_folder_in_its_place(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "kept", "old")
    replace, calls = os.replace, []

    def fail_once(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == failing:
            full_disk()
        replace(*arguments)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(LetheonError):
        fill(tmp_path / "kept", "new")
    assert (tmp_path / "kept" / "one.txt").read_text() == "old"
    assert not leftovers(tmp_path)


def test_an_exception_while_a_folder_is_filled_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        fill(tmp_path / "kept", "new", before_end=stop)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_told_beforehand(tmp_path: Path) -> None:
    with pytest.raises(LetheonError, match=r"needs 1,000,000,000,000\.0 MB"), atomic_folder(tmp_path / "x", int(1e18)):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "size_shows"),
    [
        (lambda f: (f / "one.txt").unlink(), True),
        (lambda f: (f / "one.txt").write_text("ab"), True),
        (lambda f: (f / MANIFEST).unlink(), True),
        (lambda f: (f / "one.txt").write_text("abd"), False),  # as long as before: only the hash shows it
    ],
)
def test_a_torn_folder_is_not_whole(damage: Callable[[Path], None], size_shows: bool, tmp_path: Path) -> None:
    fill(tmp_path / "kept", "abc")
    damage(tmp_path / "kept")
    assert is_whole(tmp_path / "kept") is not size_shows
    assert not is_whole(tmp_path / "kept", hashes=True)


# JSON and hashes ----------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_the_hash_of_settings_is_that_of_their_json(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair has no UTF-8 form
    assert canonical_hash(value) == canonical_hash(json.loads(json.dumps(value)))


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_hash({"a": 1, "b": (2, 3)}) == canonical_hash({"b": [2, 3], "a": 1})
    assert canonical_hash({"a": 1}) != canonical_hash({"a": 2})


@dataclass
class Settings:
    where: Path
    names: frozenset[str]


def test_settings_become_plain() -> None:
    assert plain(Settings(Path("a/b"), frozenset({"y", "x"}))) == {"where": "a/b", "names": ["x", "y"]}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_hold_are_refused(number: float) -> None:
    with pytest.raises(LetheonError, match="cannot be written as JSON"):
        plain({"a": [number]})


# Runs ---------------------------------------------------------------------------------------------------------------


def test_a_run_keeps_its_settings_their_hash_and_the_versions(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {"steps": 3})
    assert Run.open(tmp_path / "run").config == {"steps": 3}
    stored = read_json(tmp_path / "run" / "config.json")
    assert stored["hash"] == canonical_hash({"steps": 3})
    assert {"python", "torch", "letheon"} <= set(stored["versions"])


def test_a_used_folder_holds_no_second_run_and_an_empty_one_none(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {})
    with pytest.raises(InputError, match="already holds a run"):
        Run.create(tmp_path / "run", {})
    with pytest.raises(InputError, match="holds no run"):
        Run.open(tmp_path)


def test_metrics_are_appended_a_line_each(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    run.log(step=1, loss=0.5)
    run.log(step=2, loss=0.25)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.5), (2, 0.25)]


def test_lines_of_steps_to_come_are_dropped_whatever_signs_a_text_has(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    run.log(step=1, stopped="not gone: a\u2028b\x85c\ud800")
    run.log(step=2)
    run.keep_metrics(1)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").strip().split("\n")
    assert json.loads(line)["stopped"] == "not gone: a\u2028b\x85c?"


def test_what_a_killed_process_left_half_written_is_tidied_away(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {})
    torn = [tmp_path / "checkpoints" / ".letheon-new-step-000003.abc", tmp_path / ".letheon-new-model.xyz"]
    (tmp_path / ".letheon-old-model").mkdir()  # moved aside by a save that was killed before its second rename
    whole = tmp_path / "checkpoints" / "step-000002"
    for folder in (*torn, whole):
        folder.mkdir(parents=True)
    with run.lock():
        run.tidy()
        assert (tmp_path / ".lock").exists()
    assert whole.exists()
    assert not any(folder.exists() for folder in torn)
    assert (tmp_path / "model").is_dir()


TRY = """
import sys
from pathlib import Path
from letheon.core.errors import InputError
from letheon.core.runs import Run
try:
    with Run(Path(sys.argv[1])).lock():
        print("held")
except InputError as error:
    print(error.problem)
"""


def test_a_second_process_is_refused_while_the_first_holds_the_run(tmp_path: Path) -> None:
    def attempt() -> str:
        command = [sys.executable, "-c", TRY, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with Run(tmp_path).lock():
        assert attempt() == f"another process works on {tmp_path}"
    assert attempt() == "held"


def test_times_are_utc_to_the_second() -> None:
    assert len(runs.utc_now()) == len("2026-01-01T00:00:00Z")
    assert runs.utc_now().endswith("Z")


@pytest.mark.parametrize(("text", "message"), [(None, "does not exist"), ("{\n oops", "line 2: not JSON")])
def test_broken_json_is_named_with_its_line(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "x.json")


def test_the_wait_policy_of_openmp_is_passive_unless_the_user_chose_one() -> None:
    program = "import letheon, os; print(os.environ['OMP_WAIT_POLICY'])"
    shown = []
    for chosen in ({}, {"OMP_WAIT_POLICY": "active"}):
        free = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        done = subprocess.run([sys.executable, "-c", program], env=free | chosen, capture_output=True, check=True)
        shown.append(done.stdout.decode().strip())
    assert shown == ["PASSIVE", "active"]
