"""Two processes that each take a part of every step's rows learn what one process learns, to rounding."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.core.runs import Run
from letheon.retain import learn as learning
from letheon.retain.learn import learn
from letheon.retain.learner import Learner
from letheon.retain.models import mlp
from letheon.retain.texts import TextLearner
from letheon.testing.kills import Killed, killed_in_learning
from letheon.testing.pool import Processes
from letheon.testing.strategies import sample_stream, sample_texts

# Five rows per step: the processes' parts differ, and an epoch's last step has one row, so one process has none.
GIVEN: dict[str, Any] = {"batch_size": 5, "optimizer": "sgd", "learning_rate": 0.05, "device": "cpu"}
# Largest difference of a weight (weights are about 0.02): sums of other parts round otherwise.
ROUNDING = 2e-6


def learned(strategy: str, options: dict[str, Any]) -> tuple[dict[str, Tensor], list[list[float]]]:
    """The trained weights and the matrix of losses; in shards the weights are in the first process alone."""
    result = learn("tiny", sample_texts(), strategy, **{**GIVEN, **options})
    return result.learner.snapshot(), result.curve.matrix("loss").tolist()


def where(strategy: str, options: dict[str, Any]) -> tuple[float, set[str]]:
    """The share of the weights that this process trains, and the devices of the model's weights after the run."""
    shares: list[float] = []

    def look(learner: Learner) -> None:
        assert isinstance(learner, TextLearner)
        whole = sum(weight.numel() for weight in learner.language_model.base().parameters())
        shares.append(sum(weight.numel() for weight in learner.weights) / whole)

    result = learn("tiny", sample_texts(), strategy, on_evaluation=look, **{**GIVEN, **options})
    return max(shares), {weight.device.type for weight in result.model.model.parameters()}


def difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((weight - two[name]).abs().max()) for name, weight in one.items())


def check_same(processes: Processes, strategy: str, **options: Any) -> None:
    one, losses = learned(strategy, options)
    (two, found), (other, _) = processes.run(learned, strategy, options)
    if options.get("shard") != "on":
        assert difference(two, other) == 0, "both processes end with the same weights"
    assert difference(one, two) < ROUNDING
    for row, expected in zip(found, losses, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
    start = dict(load("tiny", device="cpu").model.named_parameters())
    seen = {name: weight for name, weight in one.items() if "lora_A" not in name}  # the others of an adapter begin at 0
    before = {name: start[name].detach() if name in start else torch.zeros_like(w) for name, w in seen.items()}
    assert difference(before, seen) > 100 * ROUNDING, "the weights moved"


def test_new_and_old_rows_are_divided(processes: Processes) -> None:
    check_same(processes, "replay:capacity=9")


def test_a_process_with_shards_trains_its_part_and_the_first_has_the_model(processes: Processes) -> None:
    (first, placed), (second, others) = processes.run(where, "naive", {"shard": "on"})
    assert first + second == 1
    assert 0.4 < first < 0.6
    assert (placed, others) == ({"cpu"}, {"meta"})


def test_processes_with_shards_learn_what_one_process_learns(processes: Processes) -> None:
    check_same(processes, "replay:capacity=9", shard="on")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("naive", {}),
        ("joint", {}),
        ("replay:capacity=9+ewc", {}),
        ("si", {}),
        ("ewc:online=true", {}),
        ("agem:capacity=9", {}),
        ("gem:capacity=9", {}),
        ("naive", {"momentum": 0.9, "epochs": 2, "evaluate_every": 2}),
        ("replay:capacity=9+dilution+ewc", {"adapter": "lora"}),
    ],
)
def test_every_strategy_that_can_learns_in_shards_what_one_process_learns(
    strategy: str, options: dict[str, Any], processes: Processes
) -> None:
    check_same(processes, strategy, shard="on", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    ["naive", "joint", "ewc", "si", "agem:capacity=9", "gem:capacity=9", "dilution", "replay:capacity=9+ewc+dilution"],
)
def test_every_divisible_strategy_learns_what_one_process_learns(strategy: str, processes: Processes) -> None:
    check_same(processes, strategy)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_moments_in_shards_are_those_of_one_process(optimizer: str, processes: Processes) -> None:
    """All but few entries: Adam turns the rounding of a gradient near zero into a step of the rate's size."""
    options = {"optimizer": optimizer, "learning_rate": 1e-3}
    one, two = learned("naive", options)[0], processes.run(learned, "naive", {**options, "shard": "on"})[0][0]
    away = sum(int(((weight - two[name]).abs() > ROUNDING).sum()) for name, weight in one.items())
    assert away < 2e-3 * sum(weight.numel() for weight in one.values())


def broken_off(folder: Path, strategy: str, options: dict[str, Any]) -> None:
    with suppress(Killed), killed_in_learning(4):
        learned(strategy, {"out": folder, "checkpoint_steps": 2, **options})


def continued(folder: Path, strategy: str, options: dict[str, Any]) -> dict[str, Tensor]:
    return learned(strategy, {"out": folder, "checkpoint_steps": 2, "resume": True, **options})[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("replay:capacity=9", {}),
        ("replay:capacity=9+ewc+si", {"shard": "on", "optimizer": "adamw", "learning_rate": 1e-5}),
        ("naive", {"shard": "on", "momentum": 0.9}),
    ],
)
def test_a_run_is_continued_by_any_number_of_processes(
    strategy: str, options: dict[str, Any], processes: Processes, tmp_path: Path
) -> None:
    """The same bits on as many processes; within rounding on another number."""
    unbroken = processes.run(learned, strategy, options)[0][0]
    processes.run(broken_off, tmp_path / "by two", strategy, options)
    assert len(list((tmp_path / "by two" / "checkpoints").iterdir())) >= 1
    shutil.copytree(tmp_path / "by two", tmp_path / "by one")
    by_two = processes.run(continued, tmp_path / "by two", strategy, options)
    assert difference(unbroken, by_two[0]) == 0
    if "shard" not in options:
        assert difference(unbroken, by_two[1]) == 0
    assert difference(unbroken, continued(tmp_path / "by one", strategy, options)) < ROUNDING
    assert (tmp_path / "by two" / "model" / "model.safetensors").exists()


def test_what_cannot_be_divided_is_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, number)
    monkeypatch.setattr(learning, "load_for", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=r"lwf needs all rows.*\n.*one of .*naive.*replay"):
        learn("tiny", sample_texts(), "replay+lwf")
    with pytest.raises(InputError, match=r"dilution needs whole weights.*\n.*--adapter lora, or one of .*ewc"):
        learn("tiny", sample_texts(), "replay+dilution", shard="on")
    with pytest.raises(InputError, match="small network"):
        learn(mlp([8, 16, 6]), sample_stream(), "naive")


def command(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "letheon", "learn", *options, "--processes", "2", "--device", "cpu", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_run_is_continued(tmp_path: Path) -> None:
    rows = [json.dumps({"question": f"Where is {i}?", "answer": f"In {i}."}) + "\n" for i in range(40)]
    (tmp_path / "a.jsonl").write_text("".join(rows))
    (tmp_path / "stream.toml").write_text('[[task]]\nname = "a"\ntrain = "a.jsonl"\n')
    words = "tiny --stream stream.toml --strategy naive --epochs 40 --checkpoint-steps 1 --out run"
    job = command(tmp_path, *words.split(" "))
    deadline = time.monotonic() + 240
    while not (tmp_path / "run" / "metrics.jsonl").exists() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert job.poll() is None, job.communicate()
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed = time.monotonic()
    out, err = job.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert job.returncode == 1, out + err
    assert err.count("error: ") == 1, err
    assert "was ended by SIGKILL" in err
    assert "Traceback" not in err
    config = tmp_path / "run" / "config.json"
    stored = json.loads(config.read_text())
    assert Run.open(tmp_path / "run").config == stored["config"]
    out, err = command(tmp_path, "--resume", "run").communicate(timeout=400)
    assert json.loads(out)["steps"] == 40 * 4, out + err
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
