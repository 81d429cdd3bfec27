"""A deep run: two stages in one job, killed in either of them, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from letheon.core.atomic import read_json
from letheon.core.errors import InputError, Interrupted
from letheon.core.model.models import load
from letheon.core.runs import Run
from letheon.forget import deep
from letheon.forget.deep import second_stage
from letheon.forget.recipe import read_method
from letheon.forget.recipe_job import RecipeJob
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.sequences.sequence import SequenceSettings, check_sequence
from letheon.forget.settings import ForgetSettings, Result, resolve
from letheon.jobs.forget import ForgetJob, ForgetOptions
from letheon.jobs.options import MethodOptions, RequestFiles, RunFolders
from letheon.testing.kills import Killed, killed_before_saving, killed_before_step

QUICK: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu", "steps": 2}
DEEP = "deep:steps=2,forget=none,general=none,alpha=.4"


def run(request: Request, out: Path | None = None, method: str = "npo", **options: Any) -> Result:
    return forget("tiny", request, method, out=out, **{**QUICK, "depth": DEEP, **options})


def test_it_is_the_method_and_then_undo_on_its_model(deletion: Request, tmp_path: Path) -> None:
    result = run(deletion, tmp_path / "deep")
    alone = forget("tiny", deletion, "npo", out=tmp_path / "alone", **QUICK)
    first = resume(tmp_path / "deep/shallow")
    assert first.model.parameters_hash() == alone.model.parameters_hash()
    undo = "undo:" + DEEP.removeprefix("deep:")
    second = forget(str(tmp_path / "alone/model"), deletion, undo, device="cpu", precision="float32")
    assert second.model.parameters_hash() == result.model.parameters_hash()
    assert load(tmp_path / "deep/model", device="cpu").parameters_hash() == result.model.parameters_hash()

    stored = read_json(tmp_path / "deep/result.json")
    assert [(one["method"].split(":")[0], one["steps"]) for one in stored["stages"]] == [("npo", 2), ("undo", 2)]
    assert all(one["seconds"] > 0 for one in stored["stages"])
    assert stored["steps"] == 4
    assert stored["stopped"].startswith("npo: 2 steps")
    assert ", then undo" in stored["stopped"]
    card = (tmp_path / "deep/model/README.md").read_text()
    assert "Method `npo, then undo" in card
    metrics = (tmp_path / "deep/metrics.jsonl").read_text().splitlines()
    assert ['"teacher"' in line for line in metrics] == [True, True]
    config = Run.open(tmp_path / "deep").config
    assert (config["method"], config["deep"]["recipe"]["procedure"]["alpha"]) == ("npo", 0.4)
    assert resume(tmp_path / "deep").stages == stored["stages"]  # a finished run is only read


@pytest.mark.parametrize("killed", [killed_before_step(1), killed_before_step(3), killed_before_saving()])
def test_killed_in_either_stage_it_ends_in_the_bits_of_an_unbroken_run(
    deletion: Request, tmp_path: Path, killed: Any
) -> None:
    whole = run(deletion)
    with pytest.raises(Killed), killed:
        run(deletion, tmp_path / "run", checkpoint_steps=1)
    result = resume(tmp_path / "run", device="cpu")
    assert result.model.parameters_hash() == whole.model.parameters_hash()
    assert [one["steps"] for one in result.stages] == [2, 2]


def test_values_found_in_the_first_stage_are_not_lost_by_a_kill_in_the_second(
    deletion: Request, tmp_path: Path
) -> None:
    bare = replace(deletion, forget=tuple(replace(row, value=None) for row in deletion.forget))
    whole = run(bare, method="simnpo:tokens=value")
    with pytest.raises(Killed), killed_before_step(3):
        run(bare, tmp_path / "run", method="simnpo:tokens=value")
    assert resume(tmp_path / "run", device="cpu").request.forget == whole.request.forget != bare.forget


def test_a_first_stage_that_has_ended_is_not_run_again(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed), killed_before_step(2):
        run(deletion, tmp_path / "run")
    left = tmp_path / "run/shallow/checkpoints/step-2"  # killed after its result was written
    left.mkdir(parents=True)
    monkeypatch.setattr(deep.DeepJob, "_suppress", lambda *_: pytest.fail("the first stage began again"))
    assert resume(tmp_path / "run", device="cpu").outcome.steps == 4
    assert not left.parent.exists()


def test_a_kept_update_is_the_methods_alone_and_the_run_says_so(deletion: Request, tmp_path: Path) -> None:
    result = run(deletion, tmp_path / "run", keep_update=True)
    assert (tmp_path / "run/shallow/update/update.safetensors").is_file()
    assert (result.change, (tmp_path / "run/update").exists()) == ({}, False)
    said = (
        "shallow/update holds the change by npo alone: what the distillation changed cannot be added to other weights"
    )
    assert said in read_json(tmp_path / "run/result.json")["warnings"]
    assert any(warning.startswith("no update is kept") for warning in run(deletion, keep_update=True).warnings)


def test_a_stop_in_the_first_stage_names_the_folder_of_the_job(
    deletion: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> Any:
        raise Interrupted("stopped at step 1", f"continue with --resume {tmp_path}/run/shallow")

    monkeypatch.setattr(RecipeJob, "work", stopped)
    with pytest.raises(Interrupted, match=r"--resume \S+/run$"):
        run(deletion, tmp_path / "run")


def test_a_model_that_collapsed_is_not_distilled(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "COLLAPSED", "all steps done")
    assert run(deletion).stages == []


@pytest.mark.parametrize(
    ("method", "options", "problem"),
    [
        ("npo@lora", {}, "trains an adapter"),
        ("u-can", {}, "trains an adapter"),
        ("npo@lora", {"base": "bfloat16"}, "trains an adapter"),
        ("npo", {"base": "bfloat16"}, "base=bfloat16"),
        ("npo", {"optimizer": "sgd"}, "optimizer=sgd"),
        ("npo", {"shard": "on"}, "reads and writes whole weights"),
        ("npo", {"depth": "deeper"}, "depth 'deeper'"),
        ("npo", {"depth": "deep:alfa=.3"}, "has no option 'alfa'"),
    ],
)
def test_what_cannot_be_deep_is_refused_before_anything_is_written(
    deletion: Request, tmp_path: Path, method: str, options: dict[str, Any], problem: str
) -> None:
    given = {**QUICK, "depth": DEEP, **options}
    with pytest.raises(InputError, match=problem):
        forget("tiny", deletion, method, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_loaded_model_in_other_than_float32_is_refused_before_the_first_stage(
    deletion: Request, tmp_path: Path
) -> None:
    quick = {name: value for name, value in QUICK.items() if name != "device"}
    with pytest.raises(InputError, match="is in bfloat16"):
        forget(load("tiny", device="cpu", base="bfloat16"), deletion, "npo", out=tmp_path / "run", depth=DEEP, **quick)
    assert not (tmp_path / "run").exists()


def test_the_second_stage_takes_the_machine_from_the_first_and_the_rest_from_undo() -> None:
    recipe = read_method("npo")
    settings, training = resolve(recipe, None, None, {"depth": "deep:rate=3e-4", "seed": 5, "learning_rate": 1e-6})
    second = second_stage(recipe, settings, training)
    assert second is not None
    assert (second.training.seed, second.training.learning_rate, second.steps) == (5, 1e-4, 400)
    assert second.method.part.settings.rate == 3e-4
    assert second_stage(recipe, ForgetSettings(), training) is None


def test_a_queue_is_not_distilled(deletion: Request) -> None:
    with pytest.raises(InputError, match="queue"):
        check_sequence([deletion], SequenceSettings(), ForgetSettings(depth="deep"))


def test_a_dry_run_tells_both_stages(deletion: Request, tmp_path: Path) -> None:
    deletion.write(tmp_path / "request.json")
    rows = RequestFiles(request=str(tmp_path / "request.json"))
    training = {"depth": "deep:alpha=.3", "steps": 7}
    folders = RunFolders(out=tmp_path / "run")
    plan = ForgetJob(ForgetOptions("tiny", rows, MethodOptions("npo"), training, folders=folders)).plan()
    assert plan["method"] == "npo, then undo:alpha=0.3"
    assert plan["steps"] == "7, then at most 400"
    assert plan["deep"]["recipe"]["procedure"]["alpha"] == 0.3
    assert not (tmp_path / "run").exists()
