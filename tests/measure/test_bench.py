"""The bench: trains, unlearns, evaluates, writes, and goes on where it was stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from letheon.cli import main
from letheon.core.errors import InputError, Interrupted, TrainingError
from letheon.measure import bench as running
from letheon.measure import tofu
from letheon.measure.bench import BenchPlan, Teaching, bench, plan_bench, read_benchmark
from letheon.measure.benchmark import Bench, Benchmark
from letheon.measure.page import render_bench
from tests.measure.worlds import write_tofu, write_wmdp

SHORT = Teaching(epochs=1, learning_rate=1e-3, batch_size=20)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tofu, "MOST_NEW_TOKENS", 4)
    monkeypatch.chdir(tmp_path)
    return write_tofu(tmp_path / "TOFU")


def plan(data: Path, *methods: str, **options: Any) -> BenchPlan:
    given: dict[str, Any] = {"model": "tiny", "train": True, "teaching": SHORT, "out": "out", "steps": 2}
    return plan_bench(read_benchmark("tofu", str(data), rows=2), methods, **{**given, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Bench]:
    """A whole bench of one method on a tiny model: its data, its folder, what it found."""
    place = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tofu, "MOST_NEW_TOKENS", 4)
        patch.chdir(place)
        folder = write_tofu(place / "TOFU")
        return folder, place / "out", bench(plan(folder, "simnpo", out=place / "out"), device="cpu")


def test_target_reference_and_method_are_measured(finished: tuple[Path, Path, Bench]) -> None:
    _, out, found = finished
    assert [one.name for one in found.models] == ["target", "reference", "simnpo"]
    values = {one.name: one.scores for one in found.models}
    assert values["reference"] is not None
    assert values["reference"].value("forget quality") == 1
    assert values["reference"].value("PrivLeak") == 0
    assert values["target"] is not None
    assert values["target"].value("forget quality") is not None
    assert found.models[2].run == {"steps": 2, "stopped": "all steps done", "learning_rate": 1e-5}
    for name in ("target/model", "reference/model", "methods/simnpo/model"):
        assert (out / name / "model.safetensors").is_file()
    assert not (out / "target" / "checkpoints").exists()


def test_the_record_has_values_intervals_and_rows(finished: tuple[Path, Path, Bench]) -> None:
    _, out, found = finished
    record = json.loads((out / "bench.json").read_text())
    assert record["format"] == 1
    assert record["columns"] == list(found.columns)
    score = next(s for s in record["models"][0]["scores"]["scores"] if s["name"] == "forget probability")
    assert score["estimate"]["n"] == len(score["items"]) == 20
    assert score["estimate"]["low"] <= score["estimate"]["value"] <= score["estimate"]["high"]
    assert len(record["models"][0]["scores"]["answers"]) == 20 + 60 + 2 + 2


def test_the_scores_are_also_there_as_the_harness_writes_them(finished: tuple[Path, Path, Bench]) -> None:
    _, out, found = finished
    written = json.loads((out / "lm_eval" / "simnpo.json").read_text())
    assert set(written) >= {"results", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config"}
    metrics = written["results"]["tofu_forget05"]
    assert found.models[2].scores is not None
    assert metrics["model_utility,none"] == found.models[2].scores.value("model utility")
    assert metrics["forget_probability_stderr,none"] > 0
    assert metrics["forget_quality_stderr,none"] == "N/A"
    assert written["higher_is_better"]["tofu_forget05"]["extraction_strength"] is False


def test_the_page_shows_every_model_and_escapes_names(finished: tuple[Path, Path, Bench]) -> None:
    _, out, found = finished
    page = (out / "bench.html").read_text()
    assert page == render_bench(found)
    for name in ("target", "reference", "simnpo", "forget quality", "<svg"):
        assert name in page
    hostile = running.replace(found.models[2], name="<script>x</script>")
    assert "<script>x" not in render_bench(running.replace(found, models=(*found.models[:2], hostile)))


def test_what_is_finished_is_read_back_and_methods_join(
    finished: tuple[Path, Path, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, before = finished
    monkeypatch.setattr(tofu, "MOST_NEW_TOKENS", 4)
    evaluated: list[str] = []
    plain = tofu.Tofu.evaluate
    monkeypatch.setattr(
        tofu.Tofu, "evaluate", lambda self, model, *a: evaluated.append(model.name) or plain(self, model, *a)
    )
    monkeypatch.setattr(running, "finetune", None)  # nothing is trained again
    after = bench(plan(data, "simnpo", "grad_diff", out=out), device="cpu")
    assert len(evaluated) == 1
    assert [one.name for one in after.models] == ["target", "reference", "simnpo", "grad_diff"]
    assert after.models[:3] == before.models
    with pytest.raises(InputError, match="other data, models or options"):
        bench(plan(data, "simnpo", out=out, steps=3), device="cpu")


def test_a_method_that_comes_to_nothing_does_not_stop_the_others(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = running.forget

    def forget(model: Any, request: Any, recipe: Any, **options: Any) -> Any:
        if str(recipe).startswith("npo"):
            raise TrainingError("the loss is not finite at step 1", "")
        return plain(model, request, recipe, **options)

    monkeypatch.setattr(running, "forget", forget)
    found = bench(plan(data, "npo", "simnpo", train=False, model="", target="tiny"), device="cpu")
    assert [(one.name, one.error) for one in found.models] == [
        ("target", ""),
        ("npo", "the loss is not finite at step 1"),
        ("simnpo", ""),
    ]
    assert found.models[2].scores is not None
    assert found.models[2].scores.value("forget quality") is None  # no reference was given
    assert "came to no result" in render_bench(found)


def test_a_bench_that_is_stopped_says_how_it_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **options: Any) -> None:
        raise Interrupted("training was stopped at step 1 of 4", "continue with --resume out/target")

    monkeypatch.setattr(running, "finetune", stopped)
    with pytest.raises(Interrupted) as found:
        bench(plan(data), device="cpu")
    assert found.value.remedy == "the same command goes on from there"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "tiny"}, "--train makes target and reference"),
        ({"train": False, "model": ""}, "no target is given"),
        ({"train": False}, "no target is given"),  # a base model never learned the rows
        ({"model": "./missing"}, "is not a folder"),
        ({"step": 3}, "no option 'step'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_loaded(data: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(data, "simnpo", **options)
    assert not Path("out").exists()


def test_every_benchmark_keeps_the_protocol(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark 'tufo'"):
        read_benchmark("tufo", "")
    with pytest.raises(InputError, match="no option 'peer'"):
        read_benchmark("wmdp", str(data), peer=True)
    wmdp = read_benchmark("wmdp", str(write_wmdp(tmp_path / "WMDP")), split="bio")
    with pytest.raises(InputError, match="trains no models"):
        plan_bench(wmdp, [], model="tiny", train=True, out="out")
    assert plan_bench(wmdp, ["rmu"], model="tiny", out="out").target == "tiny"
    members = [name for name in vars(Benchmark) if not name.startswith("_")]
    for place in running.BENCHMARKS.values():
        module = place.split(":")[0]
        kinds = [
            k
            for k in vars(sys.modules.get(module) or __import__(module, fromlist=["x"])).values()
            if hasattr(k, "relate")
        ]
        assert kinds, module
        assert all(hasattr(kind, name) for kind in kinds if kind is not Benchmark for name in members)


def test_the_command_says_what_it_would_do(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    words = [
        "bench",
        "tofu",
        "--model",
        "tiny",
        "--data",
        str(data),
        "--methods",
        "npo,rmu",
        "--train",
        "--dry-run",
        "--json",
    ]
    monkeypatch.setattr(sys, "argv", ["letheon", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed["methods"] == ["npo", "rmu"]
    assert printed["data"]["counts"]["forget"] == 20
    assert printed["training"]["epochs"] == 10
    assert not Path("bench").exists()
