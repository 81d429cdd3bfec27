"""`letheon spillover`: JSON and a page for good input, a row number and exit code 2 for bad, nothing on a dry run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from letheon.cli import main

SUITE = "\n".join(
    json.dumps({"domain": domain, "prompt": f"What of {domain}, {number}?"})
    for domain in ("chess", "cards", "music", "neutral")
    for number in range(2)
)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["letheon", "spillover", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "suite.jsonl").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = ("tiny", "tiny", "--suite", "suite.jsonl", "--judge", "tiny", "--max-new-tokens", "3", "--quiet")


def test_json_alone_and_a_page(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, *WORDS, "--unlearned", "chess", "--out", "o", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unlearned"] == "chess"
    assert len(found["answers"]) == 8
    assert json.loads((folder / "o/spillover.json").read_text()) == found
    assert (folder / "o/spillover.html").read_text().startswith("<!doctype html>")


def test_a_table_for_people(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, *WORDS) == 0
    printed = capsys.readouterr().out
    assert "Refusals, 8 prompts" in printed
    assert "no domain was named" in printed


def test_a_dry_run_loads_and_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("letheon.audit.spillover.spillover.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert run(monkeypatch, *WORDS, "--out", "o", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == {"chess": 2, "cards": 2, "music": 2, "neutral": 2}
    assert not (folder / "o").exists()


def test_bad_input_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (folder / "bad.jsonl").write_text(SUITE + '\n{"domain": "chess"}')
    assert run(monkeypatch, "tiny", "tiny", "--suite", "bad.jsonl") == 2
    assert "row 9, field 'prompt'" in capsys.readouterr().err
    assert run(monkeypatch, *WORDS, "--unlearned", "ches") == 2
    assert "did you mean 'chess'" in capsys.readouterr().err
