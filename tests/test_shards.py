"""Weights in shards over two processes (FSDP2): the results of one process, checkpoints, refusals, kills."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.families import family_model
from letheon.core.model.models import LanguageModel, load
from letheon.core.processes import is_main_process
from letheon.core.registry import methods
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints
from letheon.core.training.sharding import ghosts
from letheon.core.training.spreading import Filler
from letheon.forget import recipe_job
from letheon.forget.closed_loop import ClosedLoop
from letheon.forget.looks import LEFT, Looks
from letheon.forget.placement import load_placed, sharded_device
from letheon.forget.recipe import read_method
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.settings import resolve
from letheon.testing import sample_request
from letheon.testing.kills import Killed, killed_before_step
from letheon.testing.pool import Processes
from letheon.testing.shards import RUN, check_shards, compare_with_one, largest_difference, trained

# Inner products of gradients, an adapter, hidden states of a layer.
HANDFUL = [("update", "geometric"), ("scope", "lora"), ("objective", "rmu")]
KINDS: Any = ("objective", "update", "scope", "sampler", "edit", "procedure")
CASES = [(kind, record.name, one) for kind in KINDS for record in methods(kind) for one in record.tiny]


def params() -> list[Any]:
    """One case per option set of every part; those beyond the handful are slow."""
    quick = [next(case for case in CASES if case[:2] == chosen) for chosen in HANDFUL]
    return [pytest.param(*case, id="-".join(map(str, [*case[:2], *case[2].values()])),
                         marks=[] if case in quick else pytest.mark.slow) for case in CASES]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "options"), params())
def test_two_processes_with_shards_end_where_one_process_does(
    kind: Any, name: str, options: dict[str, Any], processes: Processes
) -> None:
    check_shards(processes, name, kind, options)


# A step on value tokens has two gradients from one graph: that of the facts and that of the other answer tokens.
@pytest.mark.parametrize(
    "update",
    [
        "geometric:mode=normal",
        *(
            pytest.param(update, marks=pytest.mark.slow)
            for update in ("geometric", "geometric:mode=cone", "geometric:mode=adam", "null_space", "by_group@circuit")
        ),
    ],
)
def test_the_two_gradients_of_value_tokens_stay_apart_in_shards(update: str, processes: Processes) -> None:
    compare_with_one(processes, f"npo:tokens=value+{update}", "tiny")


def test_a_difference_that_is_no_number_fails() -> None:
    """A Python `max` would pass over NaN wherever it does not come first."""
    one, two = torch.zeros(2), torch.tensor([0.0, torch.nan])
    assert math.isnan(largest_difference({"a": one, "b": one}, {"a": one, "b": two}))


# Loading ------------------------------------------------------------------------------------------------------------


def devices(folder: str) -> tuple[str, str]:
    """Where the weights lie after loading, and after the run."""
    recipe = read_method("npo")
    _, training = resolve(recipe, None, None, {"shard": "on"})
    model = load_placed(folder, recipe, training, "cpu", torch.device("cpu"))
    loaded = model.device.type
    return loaded, forget(folder, sample_request(), recipe, **{**RUN, "steps": 1, "shard": "on"}).model.device.type


def test_only_the_first_process_holds_all_weights_before_and_after(processes: Processes, tmp_path: Path) -> None:
    folder = str(load("tiny", device="cpu").save(tmp_path / "tiny"))
    assert processes.run(devices, folder) == [("cpu", "cpu"), ("meta", "meta")]
    compare_with_one(processes, "npo", folder)


def live_bytes() -> int:
    """Bytes of all tensors that this process holds outside the meta device, each storage counted once."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and not one.is_meta]
    storages = [one._local_tensor if hasattr(one, "_local_tensor") else one for one in tensors]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in storages}.values())


def held(folder: str) -> tuple[int, int]:
    """Bytes that spreading a model has left in this process when all units are in shards, and the whole model's."""
    seen = (0, 0)

    def measured(fill: Filler) -> None:
        nonlocal seen
        seen = live_bytes() - before, sum(4 * empty.numel() for _, empty in fill.empty.values())
        buffers(fill)

    buffers, before = Filler.buffers, live_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Filler, "buffers", measured)
        forget(folder, sample_request(), "npo", **{**RUN, "steps": 1, "shard": "on"})
    return seen


def test_no_whole_weights_outlive_the_spreading_of_their_unit(processes: Processes, tmp_path: Path) -> None:
    folder = str(load("tiny", device="cpu").save(tmp_path / "tiny"))
    left, whole = processes.run(held, folder)[1]  # the process that began without weights
    assert 0.4 * whole < left < 0.6 * whole


def names_of_types(folder: str) -> dict[str, str]:
    from letheon.core.model.structure import load_structure

    model = load(folder, device="cpu", base="bfloat16") if is_main_process() else load_structure(folder, "bfloat16")
    return {name: str(x.dtype) for named in (model.model.named_parameters(), model.model.named_buffers())
            for name, x in named}  # fmt: skip


def test_a_base_in_bfloat16_is_spread_from_a_folder(processes: Processes, tmp_path: Path) -> None:
    """Buffers such as rotary frequencies stay float32 in every process."""
    folder = str(load("tiny", device="cpu").save(tmp_path / "tiny"))
    first, second = processes.run(names_of_types, folder)
    assert first == second
    assert set(first.values()) == {"torch.float32", "torch.bfloat16"}
    compare_with_one(processes, "simnpo@lora", folder, base="bfloat16")


def stopped(shard: str) -> tuple[int, str]:
    """Steps and end of a run whose first process alone asks for its end."""

    def ask(_: LanguageModel, steps: int) -> str | None:
        return "enough" if is_main_process() and steps == 1 else None

    outcome = forget("tiny", sample_request(), "npo", on_step=ask, **{**RUN, "shard": shard}).outcome
    return outcome.steps, outcome.stopped


@pytest.mark.parametrize("shard", ["off", "on"])
def test_one_process_that_asks_for_the_end_ends_all(shard: str, processes: Processes) -> None:
    assert processes.run(stopped, shard) == [(1, "enough")] * 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "qwen3", "mixtral", "gemma2", "jamba"])
@pytest.mark.parametrize("method", ["npo+geometric", "simnpo@lora"])
def test_families_are_sharded(kind: str, method: str, processes: Processes, tmp_path: Path) -> None:
    """Tied and untied heads, transposed matrices, fused experts, recurrent layers."""
    compare_with_one(processes, method, str(family_model(kind).save(tmp_path / kind)))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npo+geometric", "npo+bilevel", "rmu:layer=2@layers=1-2"])
def test_three_processes_have_uneven_shards(method: str) -> None:
    with Processes(3) as three:
        compare_with_one(three, method, "tiny")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("npo:tokens=words", {"stop": "facts"}),  # answers are decoded, and the first weights put back, during the run
        ("npo+geometric", {"gradient_checkpointing": True}),
        ("simnpo@lora", {"base": "bfloat16"}),
        ("npo", {"optimizer": "sgd", "weight_decay": 0.1}),
        ("npo", {"offload": True, "weight_decay": 0.1}),
        ("npo", {"optimizer": "adamw8bit", "weight_decay": 0.1}),
    ],
    ids=["closed loop", "checkpointing", "bfloat16 base", "sgd", "offload", "8 bits"],
)
def test_settings_that_change_a_run_work_in_shards(method: str, options: dict[str, Any], processes: Processes) -> None:
    compare_with_one(processes, method, "tiny", **options)


def trained_with_few_left(options: dict[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
    """A run whose first look, after three steps, finds one fact left: the steps behind it have that row alone."""
    look = {"look_facts": 0.01, "look_likeliest": 0.04, "look_given": 0.0, "look_retain": 1.0, f"{LEFT}3": 0.04}
    with (
        patch.object(Looks, "look", lambda self: look),
        patch.object(ClosedLoop, "_looks_now", lambda self, history, estimate: len(history) == 3),
        patch.object(ClosedLoop, "_is_learned", lambda self, level: True),
        patch.object(recipe_job, "make_pairs", wraps=recipe_job.make_pairs) as made,
    ):
        found = trained("alternates:names=1", "tiny", {"stop": "facts", "steps": 6, "batch_size": 4, **options})
        assert [call.args[1][0] for call in made.call_args_list][3:] == [[3]] * 3
        return found


@pytest.mark.slow
def test_steps_with_fewer_forget_rows_than_processes_work_in_shards(processes: Processes) -> None:
    one, control = (trained_with_few_left({"micro_batch_size": size}) for size in (2, 1))
    two = processes.run(trained_with_few_left, {})[0]
    moved, noise = (largest_difference(one["weights"], other["weights"]) for other in (two, control))
    assert set(one["weights"]) == set(two["weights"])
    assert moved <= max(4 * noise, 1e-6)


# Checkpoints --------------------------------------------------------------------------------------------------------

RECIPE = "npo+geometric"
STEPS: dict[str, Any] = {**RUN, "shard": "on", "checkpoint_steps": 1, "steps": 3}


def broken_off(folder: Path) -> None:
    """A run that is killed before its second step."""
    with suppress(Killed), killed_before_step(1):
        forget("tiny", sample_request(), RECIPE, out=folder, **STEPS)


def ended(folder: Path, continued: bool) -> str:
    """The hash of the weights that a whole run, or the rest of one, saves."""
    resume(folder, device="cpu") if continued else forget("tiny", sample_request(), RECIPE, out=folder, **STEPS)
    torch.distributed.barrier() if torch.distributed.is_initialized() else None
    return load(folder / "model", device="cpu").parameters_hash()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in load(folder / "model", device="cpu").model.named_parameters()}


def test_a_run_is_continued_by_any_number_of_processes(processes: Processes, tmp_path: Path) -> None:
    """The same bits on as many processes; within rounding on another number."""
    unbroken = processes.run(ended, tmp_path / "unbroken", False)[0]
    processes.run(broken_off, tmp_path / "by two")
    assert len(checkpoints(Run(tmp_path / "by two"))) == 1
    shutil.copytree(tmp_path / "by two", tmp_path / "by one")
    assert processes.run(ended, tmp_path / "by two", True)[0] == unbroken
    ended(tmp_path / "by one", True)
    assert largest_difference(weights(tmp_path / "unbroken"), weights(tmp_path / "by one")) < 1e-6


@pytest.mark.slow
def test_a_run_of_one_process_is_continued_by_two(processes: Processes, tmp_path: Path) -> None:
    ended(tmp_path / "unbroken", False)
    broken_off(tmp_path / "of one")
    processes.run(ended, tmp_path / "of one", True)
    assert largest_difference(weights(tmp_path / "unbroken"), weights(tmp_path / "of one")) < 1e-6


# Refusals, placement ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "remedy"),
    [
        ("npo+gauss_newton", "--shard off, or an update by entries"),
        ("npo+bilevel:hvp=exact", "hvp=fd"),
        ("task_vector", "--shard off, or a recipe"),
    ],
)
def test_what_needs_whole_weights_is_refused_before_loading(
    method: str, remedy: str, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, number)
    monkeypatch.setattr("letheon.forget.run.load_placed", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=remedy):
        forget("tiny", deletion, method, shard="on", device="cpu")


def test_auto_shards_where_what_the_method_holds_does_not_fit(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sum(parameter.numel() for parameter in tiny.model.parameters())
    recipe = read_method("npo")
    _, training = resolve(recipe, None, None, {})

    def place(memory: int, method: str = "npo") -> torch.device | None:
        monkeypatch.setattr("letheon.core.training.placement.memory_of", lambda _: memory)
        return sharded_device(tiny, read_method(method), training, "cpu")

    assert place(20 * weights - 1) is None, "one process has no shards"
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert place(20 * weights) is None
    assert place(20 * weights - 1) == torch.device("cpu")
    assert place(49 * weights - 1, "npo+null_space") == torch.device("cpu"), "it holds several vectors of a step"
    assert place(49 * weights, "npo+null_space") is None
    assert place(76 * weights - 1, "npo+geometric") == torch.device("cpu"), "and earlier steps' gradients"
    assert place(20 * weights - 1, "npo+gauss_newton") is None, "what cannot be sharded stays whole"


def test_a_ghost_makes_the_passes_and_counts_for_nothing(tiny: LanguageModel, deletion: Request) -> None:
    batch = tiny.encoder().collate(tiny.encoder().encode_all(deletion.forget))
    first, ghost, other = ghosts([batch], 3)
    assert first is batch
    for one in (ghost, other):
        assert torch.equal(one.input_ids, batch.input_ids)
        assert float(one.mean(torch.ones(7), "tokens")) == float(one.mean(torch.ones(7), "rows")) == 0
    assert ghosts([], 3) == []


# The command line ---------------------------------------------------------------------------------------------------


def command(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """`letheon forget --processes 2` on the sample request."""
    if not (tmp_path / "request.json").exists():
        sample_request().write(tmp_path / "request.json")
    return subprocess.Popen(
        [sys.executable, "-m", "letheon", "forget", *options, "--no-audit", "--processes", "2", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


def new(tmp_path: Path, steps: int) -> subprocess.Popen[str]:
    options = f"tiny --request request.json --method npo --steps {steps} --checkpoint-steps 1 --shard on --out run"
    return command(tmp_path, *options.split(), "--json")


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_the_run_is_continued(tmp_path: Path) -> None:
    job, metrics = new(tmp_path, 400), tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not metrics.exists() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed = time.monotonic()
    out, err = job.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert job.returncode == 1, out + err
    assert not (tmp_path / "run" / "model").exists()
    config = tmp_path / "run" / "config.json"
    stored = json.loads(config.read_text())
    stored["config"]["settings"]["steps"] = len(metrics.read_text().splitlines()) + 2
    config.write_text(json.dumps(stored))
    out, err = command(tmp_path, "--resume", "run").communicate(timeout=240)
    assert (tmp_path / "run" / "model" / "model.safetensors").exists(), out + err


@pytest.mark.slow
def test_several_processes_share_one_console_and_one_error(tmp_path: Path) -> None:
    job = new(tmp_path, 2)
    out, err = job.communicate(timeout=240)
    assert job.returncode == 0, out + err
    assert json.loads(out)["steps"] == 2
    job = new(tmp_path, 2)
    out, err = job.communicate(timeout=240)
    assert job.returncode == 2, out + err
    assert err.count("already holds a run") == 1
    assert "Traceback" not in err
