"""`letheon probe`: every probe plans without a model, two run and write their page, bad input is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from letheon.cli.probe import probe
from letheon.core.errors import InputError
from letheon.jobs.probe import SETTINGS, ProbeJob

RUN = CliRunner()
CHOICE = '{{"prompt": "{0}?", "options": ["a", "b"], "gold": "a"}}\n'


@pytest.fixture
def choices(tmp_path: Path) -> dict[str, Path]:
    """Rows trained on and rows held out."""
    files = {}
    for name, prompts in (("trained", "pqrs"), ("held_out", "uvwx")):
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(CHOICE.format(prompt) for prompt in prompts))
    return files


@pytest.mark.parametrize("name", SETTINGS)
def test_every_probe_is_a_command_and_plans_without_a_model(name: str, choices: dict[str, Path]) -> None:
    two = name in ("post-training", "compare", "forgetting-depth")
    arguments = [name, "tiny", *(["tiny"] if two else []), "--dry-run", "--json"]
    if name == "forgetting-depth":
        arguments += ["--trained", str(choices["trained"]), "--held-out", str(choices["held_out"])]
    result = RUN.invoke(probe, arguments, catch_exceptions=False)
    assert json.loads(result.stdout)["probe"] == name


def test_a_comparison_prints_checks_and_writes_page_and_numbers(tmp_path: Path) -> None:
    options = ["--tokens", "48", "--texts", "2", "--items", "4", "--out", str(tmp_path)]
    result = RUN.invoke(probe, ["compare", "tiny", "tiny", *options], catch_exceptions=False)
    assert "The two models are equal" in " ".join(result.stdout.split())
    assert "How reliable the result is" in result.stdout
    written = json.loads((tmp_path / "compare.json").read_text())
    assert len(written["tables"][0]["rows"]) == 4
    page = (tmp_path / "compare.html").read_text()
    assert page.count("<svg") == 4
    assert not re.search(r"(src|href)=\"http", page), "the page loads nothing"


def test_forgetting_depth_has_its_command(choices: dict[str, Path]) -> None:
    job = ProbeJob("forgetting-depth", ("tiny", "tiny"), {"layer": None, "per_token": False}, choices, device="cpu")
    report = job.work()
    assert "forget ratio" in report.headline
    assert report.tables[0].columns[0] == "rows"
    json.dumps(report.to_json())


def test_bad_input_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        ProbeJob("sinks", (str(tmp_path / "missing"),)).plan()
    with pytest.raises(InputError, match="could not be read"):
        ProbeJob("sinks", ("tiny",), files={"text": tmp_path / "missing.txt"}).plan()
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo\n")
    with pytest.raises(InputError, match="2 prompts"):
        ProbeJob("post-training", ("tiny", "tiny"), files={"refused": prompts}).plan()
    prompts.write_text("one\ntwo\nthree\nfour\n")
    with pytest.raises(InputError, match="only one of"):
        ProbeJob("post-training", ("tiny", "tiny"), files={"refused": prompts}).plan()
    with pytest.raises(InputError, match="out of range"):
        ProbeJob("sinks", ("tiny",), {"tokens": 1}).plan()
    with pytest.raises(InputError, match="same prompts"):
        ProbeJob("post-training", ("tiny", "tiny"), files={"refused": prompts, "answered": prompts}).plan()
    with pytest.raises(InputError, match="above 0"):
        ProbeJob("sinks", ("tiny",), {"strengths": (-1.0,)}).plan()
