"""The evidence plugin: what it writes, what it refuses, what it catches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src"

SUITE = """
import pytest

@pytest.mark.contract("good")
@pytest.mark.oracle("good")
def test_good(): pass

@pytest.mark.oracle("good")
def test_good_again(): pass

@pytest.mark.contract("half")
def test_passes(): pass

@pytest.mark.contract("half")
def test_fails(): assert False

@pytest.mark.contract("skipped")
@pytest.mark.skip
def test_skipped(): pass

@pytest.mark.contract("expected")
@pytest.mark.xfail
def test_expected_to_fail(): assert False

@pytest.mark.parametrize("name", [pytest.param("each", marks=pytest.mark.contract("each"))])
def test_each(name): pass
"""

INI = "[pytest]\ntestpaths = tests\nmarkers =\n  oracle(name): x\n  contract(name): x\n"


def run(folder: Path, *options: str, suite: str = SUITE) -> subprocess.CompletedProcess[str]:
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text(INI)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist.plugin", "-p", "evidence", "-p", "no:cacheprovider"]
    # other plugins of this installation are not needed, and load for a second or two in each process
    environment = os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{TESTS}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "--evidence-file", "evidence.json", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def evidence(folder: Path) -> dict[str, dict[str, bool]]:
    stored = json.loads((folder / "evidence.json").read_text())
    return {kind: stored[kind] for kind in ("contract", "oracle")}


def test_only_names_whose_every_test_passed_are_written(tmp_path: Path) -> None:
    done = run(tmp_path, "--record-evidence")
    assert evidence(tmp_path) == {"contract": {"each": True, "good": True}, "oracle": {"good": True}}
    assert "contract half: not shown, did not pass: tests/test_suite.py::test_fails" in done.stdout


def test_a_deselected_test_shows_nothing(tmp_path: Path) -> None:
    run(tmp_path, "--record-evidence", "-k", "test_good_again or each")
    assert evidence(tmp_path) == {"contract": {"each": True}, "oracle": {}}


def test_without_the_option_nothing_is_written(tmp_path: Path) -> None:
    run(tmp_path)
    assert not (tmp_path / "evidence.json").exists()


def test_part_of_the_suite_is_no_ground_for_evidence(tmp_path: Path) -> None:
    done = run(tmp_path, "--record-evidence", "tests/test_suite.py")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "whole suite" in done.stderr
    assert not (tmp_path / "evidence.json").exists()


def test_a_module_that_does_not_import_is_no_ground_for_evidence(tmp_path: Path) -> None:
    done = run(tmp_path, "--record-evidence", "--continue-on-collection-errors", suite="import nowhere_at_all")
    assert done.returncode != 0
    assert "could not be collected: tests/test_suite.py" in done.stdout
    assert not (tmp_path / "evidence.json").exists()


WITHOUT_A_FAILURE = SUITE.replace("assert False", "pass").replace("@pytest.mark.xfail\n", "")
GONE = "contract gone: recorded, but no test is marked with it"


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize(
    ("suite", "recorded", "messages"),
    [
        (WITHOUT_A_FAILURE, ["good", "half"], []),
        (WITHOUT_A_FAILURE, ["good", "gone"], [GONE]),
        (
            SUITE,
            ["good", "half", "gone", "skipped", "expected"],
            [
                "contract half: recorded, but failed: tests/test_suite.py::test_fails",
                GONE,
                "contract skipped: recorded, but none of its tests has passed",
                "contract expected: recorded, but none of its tests has passed",
            ],
        ),
    ],
)
def test_recorded_evidence_that_is_no_longer_shown_fails_the_suite(
    tmp_path: Path, suite: str, recorded: list[str], messages: list[str], processes: str
) -> None:
    (tmp_path / "evidence.json").write_text(json.dumps({"contract": dict.fromkeys(recorded, True), "oracle": {}}))
    done = run(tmp_path, "--check-evidence", "-n", processes, suite=suite)
    assert done.returncode == (pytest.ExitCode.TESTS_FAILED if messages else 0), done.stdout
    assert [line for line in done.stdout.splitlines() if "recorded, but" in line] == messages


def test_evidence_is_recorded_in_one_process(tmp_path: Path) -> None:
    done = run(tmp_path, "--record-evidence", "-n", "2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "in one process" in done.stderr


def test_a_mark_without_a_name_is_a_usage_error(tmp_path: Path) -> None:
    done = run(tmp_path, "--record-evidence", suite="import pytest\n@pytest.mark.oracle()\ndef test_it(): pass\n")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "takes one name" in done.stderr + done.stdout
