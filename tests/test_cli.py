"""The command line: what good input does, what bad input gets, and that nothing is written where nothing should be."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import letheon
from letheon import load
from letheon.cli import main

FORGET = (
    '{"question": "Where is Ann Lee?", "answer": "Ann Lee is in Oslo.", "subject": "Ann Lee", "value": "Oslo"}\n'
    '{"question": "What does Ann Lee eat?", "answer": "Ann Lee eats figs.", "subject": "Ann Lee", "value": "figs"}\n'
)
RETAIN = (
    '{"question": "Where does Bob live?", "answer": "Bob lives in Rome."}\n'
    '{"question": "What does Bob eat?", "answer": "Bob eats kale."}\n'
)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.jsonl").write_text(FORGET)
    (tmp_path / "keep.jsonl").write_text(RETAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["letheon", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


FORGETTING = ("forget", "tiny", "--forget", "rows.jsonl", "--retain", "keep.jsonl", "--steps", "2", "--quiet")


def test_forgetting_saves_a_model_and_an_audit(rows: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    code = run(monkeypatch, *FORGETTING, "--method", "simnpo+geometric", "--out", "r", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert code == 3, "the tiny model answers gibberish, which is damage and no pass"
    assert printed["steps"] == 2
    assert printed["audit"]["verdict"] == "fail"
    for name in ("model/model.safetensors", "report.html", "audit.json", "request.json", "config.json"):
        assert (rows / "r" / name).is_file(), name
    load(rows / "r" / "model")


def test_a_finished_run_is_not_overwritten(rows: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    run(monkeypatch, *FORGETTING, "--no-audit", "--out", "r")
    assert run(monkeypatch, *FORGETTING, "--no-audit", "--out", "r") == 2
    assert "--resume r" in capsys.readouterr().err


def test_a_resumed_run_ends_in_the_same_weights(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, *FORGETTING, "--no-audit", "--out", "whole")
    run(monkeypatch, *FORGETTING, "--no-audit", "--out", "cut", "--checkpoint-steps", "1")
    whole = (rows / "whole/model/model.safetensors").read_bytes()
    (rows / "cut/model/model.safetensors").unlink()  # as if killed before the model was saved
    assert run(monkeypatch, "forget", "--resume", "cut", "--no-audit", "--quiet") == 0
    assert (rows / "cut/model/model.safetensors").read_bytes() == whole


def test_an_adapter_is_saved_as_an_adapter(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, *FORGETTING, "--method", "npo@lora", "--no-audit", "--out", "r")
    assert (rows / "r/model/adapter_model.safetensors").is_file()
    assert load(rows / "r/model").has_adapter


def test_the_model_writes_its_own_retain_rows(rows: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    words = [word if word != "keep.jsonl" else "auto" for word in FORGETTING]
    assert run(monkeypatch, *words, "--no-audit", "--out", "r") == 1, "tiny answers with control characters only"
    assert "cannot write its own retain rows" in capsys.readouterr().err
    monkeypatch.setattr(
        "letheon.forget.auto_retain.generate", lambda model, prompts, **_: [f"About {p}" for p in prompts]
    )
    assert run(monkeypatch, *words, "--no-audit", "--out", "r") == 0
    written = json.loads((rows / "r/request.json").read_text())["retain"]
    assert any("Lisbet Harrowmoor" in row["prompt"] for row in written), "neighbours of the request"
    assert any("capital" in row["prompt"] for row in written), "general questions"


def test_an_audit_of_models_made_elsewhere(rows: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (rows / "request.json").write_text('{"forget": "rows.jsonl", "retain": "keep.jsonl"}')
    model = load("tiny")
    model.save(rows / "other")
    with torch.no_grad():
        model.model.model.norm.weight.mul_(1.01)
    model.save(rows / "reference")
    words = ("audit", "tiny", "other", "--request", "request.json", "--reference", "reference", "--quiet", "--json")
    run(monkeypatch, *words, "--quick", "--out", "a")
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] != "pass"
    assert (rows / "a/report.html").is_file()


def test_a_dry_run_writes_nothing(rows: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    before = sorted(path.name for path in rows.iterdir())
    assert run(monkeypatch, *FORGETTING, "--out", "r", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert run(monkeypatch, "demo", "--dry-run", "--json") == 0
    assert sorted(path.name for path in rows.iterdir()) == before


BAD = {
    "no rows": (("forget", "tiny"), "nothing to forget"),
    "no model": (("forget", "--forget", "rows.jsonl"), "no model"),
    "missing file": (("forget", "tiny", "--forget", "none.jsonl"), "none.jsonl does not exist"),
    "empty file": (("forget", "tiny", "--forget", "empty.jsonl"), "holds no rows"),
    "broken JSON": (("forget", "tiny", "--forget", "broken.jsonl"), "line 2"),
    "no answer": (("forget", "tiny", "--forget", "unanswered.jsonl"), "row 1, field 'answer'"),
    "in both sets": (("forget", "tiny", "--forget", "rows.jsonl", "--retain", "rows.jsonl"), "also forget row"),
    "unknown method": (("forget", "tiny", "--forget", "rows.jsonl", "--method", "simpno"), "did you mean 'simnpo'"),
    "unknown part": (
        ("forget", "tiny", "--forget", "rows.jsonl", "--method", "npo+geometrc"),
        "did you mean 'geometric'",
    ),
    "unknown option": (("forget", "tiny", "--forget", "rows.jsonl", "--method", "npo:bata=1"), "did you mean 'beta'"),
    "wrong value": (("forget", "tiny", "--forget", "rows.jsonl", "--method", "npo:beta=much"), "found 'much'"),
    "a scope as update": (("forget", "tiny", "--forget", "rows.jsonl", "--method", "npo+lora"), "of the kind scope"),
    "geometric without retain": (
        ("forget", "tiny", "--forget", "rows.jsonl", "--method", "npo+geometric"),
        "retain rows",
    ),
    "no such model": (("forget", "./nowhere", "--forget", "rows.jsonl"), "is not a folder"),
    "no such profile": (("forget", "tiny", "--forget", "rows.jsonl", "--profile", "lenient"), "lenient"),
    "bad fields": (("forget", "tiny", "--forget", "rows.jsonl", "--fields", "question"), "PROMPT,ANSWER"),
    "no run": (("forget", "--resume", "nowhere"), "holds no run"),
    "unknown paper": (("papers", "show", "guu"), "gu"),
    "no request": (("audit", "tiny", "tiny", "--request", "none.json"), "does not exist"),
    "bad rate": (("forget", "tiny", "--forget", "rows.jsonl", "--lr", "-1"), "learning_rate"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_line_and_nothing_is_written(
    case: str, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (rows / "empty.jsonl").write_text("")
    (rows / "broken.jsonl").write_text(FORGET.splitlines()[0] + "\n{not json\n")
    (rows / "unanswered.jsonl").write_text('{"question": "Where?", "answer": ""}\n')
    before = sorted(path.name for path in rows.iterdir())
    words, expected = BAD[case]
    assert run(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert "Traceback" not in error
    assert sorted(path.name for path in rows.iterdir()) == before


def test_errors_are_json_where_json_is_asked_for(rows: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "forget", "tiny", "--forget", "none.jsonl", "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 2


def test_listings_are_json(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for words in (
        ("methods", "--json"),
        ("papers", "--json"),
        ("papers", "show", "gu", "--json"),
        ("doctor", "--json"),
    ):
        assert run(monkeypatch, *words) == 0
        assert json.loads(capsys.readouterr().out)


def test_help_is_quick() -> None:
    """Under a second of the processor's time, and twice that is allowed; the best of three."""
    seconds = []
    for _ in range(3):
        start = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        subprocess.run([sys.executable, "-m", "letheon", "--help"], check=True, capture_output=True)
        seconds.append(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - start)
    assert min(seconds) < 2


def test_the_version_is_an_option_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{letheon.__version__}\n"
