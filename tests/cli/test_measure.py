"""`letheon measure`: what is refused before a model is loaded, one small measurement, two side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from letheon.cli.app import app
from letheon.core.errors import InputError
from letheon.jobs.measure import CompareRunsJob, EndpointOptions, MeasureData, MeasureJob
from letheon.printing.measure import show_measurement, show_run_comparison


def test_one_model_is_measured_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given: none"):
        MeasureJob("normad").plan()
    with pytest.raises(InputError, match=r"given: tiny, http://127.0.0.1:1/v1"):
        MeasureJob("normad", ("tiny",), endpoint=EndpointOptions("http://127.0.0.1:1/v1", "m")).plan()
    with pytest.raises(InputError, match="without a model's name"):
        MeasureJob("normad", endpoint=EndpointOptions("http://127.0.0.1:1/v1")).plan()
    with pytest.raises(InputError, match="--set rating"):
        MeasureJob("norming", ("tiny",), MeasureData(options=["rating"])).plan()
    with pytest.raises(InputError, match="give two"):
        CompareRunsJob((str(tmp_path),)).plan()
    plan = MeasureJob("normad", ("tiny",), MeasureData(limit=2, options=["conditions=rule"])).plan()
    assert plan["conditions"] == ["rule"]


def test_tasks_are_exported_without_a_model(tmp_path: Path) -> None:
    command = ["measure", "normad", "--export-lm-eval", str(tmp_path), "--limit", "2", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tasks"][-1] == "letheon_normad_rule"
    assert len((tmp_path / "letheon_normad_rule.jsonl").read_text().splitlines()) == 2


def test_a_measurement_is_printed_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = MeasureJob("memorization", ("nearest",), MeasureData(limit=80, options=["subsets=4"]), out=tmp_path / "run")
    show_measurement(job.work(), tmp_path / "run", False)
    shown = capsys.readouterr().out
    assert "AUROC flipped labels" in shown
    assert (tmp_path / "run" / "items.jsonl").is_file()
    same = CompareRunsJob((str(tmp_path / "run"), str(tmp_path / "run"))).work()
    show_run_comparison(same, True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["accuracy"]["value"] == 0
    assert rows["accuracy"]["p"] == 1
