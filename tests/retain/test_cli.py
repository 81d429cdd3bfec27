"""`letheon learn` and `compare-strategies` from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from letheon.cli import main

ROWS = "".join(json.dumps({"question": f"Where is {i}?", "answer": f"In {i}."}) + "\n" for i in range(5))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.jsonl").write_text(ROWS)
    (tmp_path / "b.jsonl").write_text(ROWS.replace("Where", "Who"))
    (tmp_path / "stream.toml").write_text('[[task]]\nname = "a"\ntrain = "a.jsonl"\n[[task]]\ntrain = "b.jsonl"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["letheon", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_language_model_learns_a_stream_and_a_finished_run_is_read_again(folder, monkeypatch, capsys) -> None:
    words = ("learn", "tiny", "--stream", "stream.toml", "--strategy", "replay:capacity=4", "--adapter", "lora", "-q")
    assert run(monkeypatch, *words, "--out", "r", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["matrix"]) == 3
    for name in ("model/adapter_model.safetensors", "learn.html", "learned.json", "config.json", "metrics.jsonl"):
        assert (folder / "r" / name).is_file(), name
    assert run(monkeypatch, "learn", "--resume", "r", "--json", "-q") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["curve"] == printed["curve"]
    assert run(monkeypatch, *words, "--out", "r") == 2


def test_strategies_are_compared_on_digits(folder, monkeypatch, capsys) -> None:
    words = (
        "compare-strategies",
        "mlp=16/no-bias",
        "--stream",
        "split-digits",
        "--strategies",
        "naive replay:capacity=50",
    )
    assert run(monkeypatch, *words, "--seeds", "2", "--out", "c", "--json", "-q") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [entry["strategy"] for entry in printed["entries"]] == ["naive", "replay:capacity=50"]
    assert (folder / "c/compare.html").is_file()


def test_a_dry_run_writes_nothing(folder, monkeypatch, capsys) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert run(monkeypatch, "learn", "tiny", "--stream", "stream.toml", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == {"a": "4 rows, 1 for tests", "task 2": "4 rows, 1 for tests"}
    words = (
        "compare-strategies",
        "mlp",
        "--stream",
        "split-digits",
        "--strategies",
        "naive;ewc",
        "--dry-run",
        "--json",
    )
    assert run(monkeypatch, *words) == 0
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("learn", "tiny"), "no stream"),
        (("learn", "--stream", "split-digits"), "no model"),
        (("learn", "mlp", "--stream", "stream.toml"), "holds texts"),
        (("learn", "mlp=a", "--stream", "split-digits"), "write mlp"),
        (("learn", "mlp=16/nobias", "--stream", "split-digits"), "mlp=100-100/no-bias"),
        (("learn", "./gone", "--stream", "stream.toml"), "is not a folder"),
        (("learn", "mlp", "--stream", "split-digits", "--strategy", "npoo"), "known:"),
        (("learn", "mlp", "--stream", "split-digits", "--epochs", "0"), "epochs"),
        (("learn", "--resume", "nowhere"), "holds no run"),
        (("learn", "--resume", "nowhere", "--epochs", "3", "--dry-run"), "keeps the settings"),
        (("learn", "--resume", "nowhere", "--strategy", "ewc"), "--resume and strategy are given"),
        (("learn", "--resume", "nowhere", "--strategy", "replay"), "--resume and strategy are given"),
        (("compare-strategies", "mlp", "--stream", "split-digits", "--strategies", "naive naive"), "each once"),
    ],
)
def test_bad_input_leaves_with_code_2_and_writes_nothing(words, found, folder, monkeypatch, capsys) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert run(monkeypatch, *words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert found in said
    assert sorted(path.name for path in folder.iterdir()) == before
