"""`letheon steer`: fit, chat, curve, bake and export on the tiny model, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from letheon.cli import main
from letheon.printing.steer import layers_by_kind

SUBJECTS = ("The cat", "A king", "My aunt", "The sea", "Rain")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["letheon", "steer", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.txt").write_text("\n".join(f"{one} is good!" for one in SUBJECTS))
    (tmp_path / "bad.txt").write_text("\n".join(f"{one} is bad?" for one in SUBJECTS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


TEXTS = ("--toward", "good.txt", "--from", "bad.txt")


def test_from_texts_to_a_model_and_a_control_vector(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fitted = ("fit", "tiny", *TEXTS, "--method", "pca:layers=1", "--out", "kind.safetensors", "--quiet")
    assert run(monkeypatch, *fitted, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["method"], made["sites"], made["tokens"]) == ("pca:layers=1", ["1.residual"], "all")

    assert run(monkeypatch, "export", "kind.safetensors", "--out", "kind.gguf") == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who is it?\n\n"))
    files = ("kind.safetensors", "kind.gguf")
    capsys.readouterr()
    assert (
        run(monkeypatch, "chat", "tiny", *files, "--strength", "0.5", "--max-new-tokens", "3", "--beside", "--json")
        == 0
    )
    assert set(json.loads(capsys.readouterr().out)) == {"unsteered", "steered"}

    (folder / "asked.txt").write_text("Who?\nWhy?\n")
    (folder / "prose.txt").write_text("A cat sat.\n")
    options = ("--strength", "1", "--random", "1", "--max-new-tokens", "2", "--out", "curve", "--quiet")
    options += ("--prompts", "asked.txt", "--neutral", "prose.txt")
    assert run(monkeypatch, "curve", "tiny", "kind.safetensors", *TEXTS, *options) == 0
    assert "recommended strength" in capsys.readouterr().out
    assert (folder / "curve/curve.html").read_text().startswith("<!doctype html>")
    assert json.loads((folder / "curve/curve.json").read_text())["model"] == "tiny"

    assert run(monkeypatch, "bake", "tiny", "kind.safetensors", "--out", "model", "--quiet") == 0
    assert json.loads((folder / "model/config.json").read_text())["mlp_bias"]


def test_somebody_who_types_is_asked_and_can_quit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(monkeypatch, "fit", "tiny", *TEXTS, "--method", "pca:layers=1-3", "--out", "kind.safetensors") == 0
    told = capsys.readouterr().out
    assert "sites: residual of layers 1-3\n" in told
    assert "separation: " in told
    typed = io.StringIO("Who is it?\n\n/quit\nnever asked\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    assert run(monkeypatch, "chat", "tiny", "kind.safetensors", "--max-new-tokens", "2") == 0
    said = capsys.readouterr().out
    assert said.count("steered: ") == 1
    assert said.count("you> ") == 3


def test_sites_are_told_by_kind_and_range() -> None:
    sites = ["0.mlp", "1.mlp", "2.mlp", "7.mlp", "3.router"]
    assert layers_by_kind(sites) == ["mlp of layers 0-2, 7", "router of layer 3"]


def test_what_is_wrong_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert run(monkeypatch, "fit", "tiny", "--toward", "good.txt", "--from", "good.txt", "--out", "x.safetensors") == 2
    assert "are equal" in capsys.readouterr().err
    assert run(monkeypatch, "fit", "tiny", *TEXTS, "--method", "pac", "--out", "x.safetensors") == 2
    assert "did you mean 'pca'" in capsys.readouterr().err
    assert run(monkeypatch, "fit", "tiny", *TEXTS, "--method", "pca:layers=9", "--out", "x.safetensors") == 2
    assert "layers 9 asked for, the model has 0-3" in capsys.readouterr().err
    assert not (folder / "x.safetensors").exists()
    assert run(monkeypatch, "fit", "tiny", *TEXTS, "--out", "x.gguf") == 2
    assert "no .safetensors file" in capsys.readouterr().err
    assert (
        run(monkeypatch, "fit", "tiny", *TEXTS, "--method", "linear_act:site=residual", "--out", "r.safetensors") == 0
    )
    capsys.readouterr()
    assert run(monkeypatch, "bake", "tiny", "r.safetensors", "--out", "m", "--dry-run", "--json") == 0
    assert "residual stream" in json.loads(capsys.readouterr().out)["cannot be baked"][0]
    assert run(monkeypatch, "export", "r.safetensors", "--out", "r.gguf") == 2
    assert "not a control vector" in capsys.readouterr().err
    assert run(monkeypatch, "chat", "tiny", "r.safetensors", "--prompt", "Hi", "--max-new-tokens", "0") == 2
    assert "0 new tokens" in capsys.readouterr().err
    assert run(monkeypatch, "chat", "tiny", "r.safetensors", "--prompt", "Hi", "--strength", "nan") == 2
    assert "give finite numbers" in capsys.readouterr().err
    assert not (folder / "m").exists()
