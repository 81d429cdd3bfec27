"""The loop: what a step is given, what is kept, how it resumes, how it ends."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from letheon.core.errors import InputError, Interrupted, LetheonError, TrainingError
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import epochs_of, micro_batches, stream_seed
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints
from letheon.core.training.finetuning import finetune, prepare_batches
from letheon.core.training.loop import Loop
from letheon.core.training.settings import TrainSettings
from tests import naive

PLAIN = {"precision": "float32", "learning_rate": 1e-2, "clip": None}


def make_loop(
    total: int = 4, folder: Path | None = None, model: LanguageModel | None = None, state: Any = None, **options: Any
) -> Loop:
    model = model or load("tiny", device="cpu")
    run = None
    if folder is not None:
        run = Run(folder) if (folder / "config.json").exists() else Run.create(folder, {})
    chosen = {"norm": model.model.model.norm.weight}
    return Loop(model, chosen, TrainSettings(**{**PLAIN, **options}), total, run=run, state=state)


def pull(loop: Loop) -> Callable[[int], dict[str, float]]:
    """A step that pulls the weight towards random targets drawn from the step's own stream."""
    weight = loop.parameters["norm"]

    def step(number: int) -> dict[str, float]:
        loss = ((weight - torch.randn(weight.shape)) ** 2).mean()
        loss.backward()
        loop.optimizer.step()
        return loop.reduce_metrics({"loss": loss.item()})

    return step


# Steps --------------------------------------------------------------------------------------------------------------


def test_only_the_chosen_parameters_are_trained_and_all_can_train_afterwards() -> None:
    loop = make_loop()
    seen = []

    def step(number: int) -> dict[str, float]:
        seen.append([name for name, p in loop.model.model.named_parameters() if p.requires_grad])
        return pull(loop)(number)

    loop.run(step)
    assert seen == [["model.norm.weight"]] * 4
    assert all(parameter.requires_grad for parameter in loop.model.model.parameters())
    assert all(parameter.grad is None for parameter in loop.model.model.parameters())


def test_the_learning_rate_warms_up_and_falls() -> None:
    def rates(**options: Any) -> list[float]:
        loop, found = make_loop(total=6, **options), []

        def step(number: int) -> dict[str, float]:
            found.append(loop.optimizer.param_groups[0]["lr"] / 1e-2)
            return pull(loop)(number)

        loop.run(step)
        return found

    assert rates() == pytest.approx([1] * 6)
    assert rates(warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert rates(schedule="linear", warmup_steps=2) == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25])


def test_a_reason_to_stop_ends_the_loop_and_is_told() -> None:
    loop = make_loop(total=9)
    outcome = loop.run(pull(loop), stop=lambda history: "enough" if len(history) == 3 else None)
    assert (outcome.steps, outcome.stopped, len(outcome.history)) == (3, "enough", 3)


def test_clipping_bounds_the_norm_and_returns_the_one_before() -> None:
    loop = make_loop(clip=1.0)
    weight = loop.parameters["norm"]
    weight.grad = torch.full_like(weight, 2.0)
    assert loop.clip() == pytest.approx(16.0)  # 2 * sqrt(64)
    assert float(weight.grad.norm()) == pytest.approx(1.0, rel=1e-4)
    unbounded = make_loop(clip=None)
    unbounded.parameters["norm"].grad = torch.full_like(weight, 2.0)
    assert unbounded.clip() == pytest.approx(16.0)
    assert float(unbounded.parameters["norm"].grad.norm()) == pytest.approx(16.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_before_anything_moves(bad: float) -> None:
    loop = make_loop()
    with pytest.raises(TrainingError, match="kl is not finite at step 0"):
        loop.reduce_metrics({"loss": 1.0, "kl": bad})
    loop.parameters["norm"].grad = torch.full((64,), bad)
    with pytest.raises(TrainingError, match="norm is not finite"):
        loop.clip()


def test_taken_gradients_are_zero_where_there_are_none_and_cleared() -> None:
    loop = make_loop()
    assert [float(g.abs().sum()) for g in loop.take_gradients()] == [0.0]
    loop.parameters["norm"].grad = torch.ones(64)
    assert torch.equal(loop.take_gradients()[0], torch.ones(64))
    assert loop.parameters["norm"].grad is None


def test_no_parameters_are_refused(tiny: LanguageModel) -> None:
    with pytest.raises(InputError, match="no parameter is selected"):
        Loop(tiny, {}, TrainSettings(), 1)


# Checkpoints --------------------------------------------------------------------------------------------------------


class Counter:
    """Something that must survive a restart."""

    def __init__(self) -> None:
        self.value = torch.zeros(1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.value = state["value"]


def weight_after(loop: Loop, step: Callable[[int], dict[str, float]] | None = None) -> Tensor:
    loop.run(step or pull(loop))
    return loop.parameters["norm"].detach().clone()


class Crash(Exception):
    """The end of a process."""


def crashing(loop: Loop, at: int) -> Callable[[int], dict[str, float]]:
    inner = pull(loop)

    def step(number: int) -> dict[str, float]:
        if number == at:
            raise Crash
        return inner(number)

    return step


@pytest.mark.parametrize("crash", range(1, 7))
@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_ends_in_the_bits_of_an_unbroken_one(crash: int, every: int, tmp_path: Path) -> None:
    options = {"checkpoint_steps": every, "schedule": "linear", "warmup_steps": 2}
    unbroken_loop = make_loop(total=8, **options)
    unbroken = weight_after(unbroken_loop)
    loop = make_loop(total=8, folder=tmp_path, **options)
    with pytest.raises(Crash):
        loop.run(crashing(loop, crash))
    again = make_loop(total=8, folder=tmp_path, **options)
    assert again.resume() is (crash >= every)
    assert again.step == crash - crash % every
    assert torch.equal(weight_after(again), unbroken)
    assert again.history == unbroken_loop.history


def test_further_state_survives(tmp_path: Path) -> None:
    counter = Counter()
    loop = make_loop(total=4, folder=tmp_path, state=counter, checkpoint_steps=1)

    def step(number: int) -> dict[str, float]:
        counter.value = counter.value + 1
        return pull(loop)(number)

    loop.run(step)
    fresh = Counter()
    make_loop(total=4, folder=tmp_path, state=fresh).resume()
    assert fresh.value.item() == 3  # the last step is not kept: the result is


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    loop = make_loop(total=6, folder=tmp_path, checkpoint_steps=1)
    loop.run(pull(loop))
    assert [folder.name for folder in checkpoints(Run(tmp_path))] == ["step-000004", "step-000005"]


def test_time_asks_for_checkpoints_too(tmp_path: Path) -> None:
    loop = make_loop(total=3, folder=tmp_path, checkpoint_seconds=1e-9)
    loop.run(pull(loop))
    assert len(checkpoints(Run(tmp_path))) == 2
    never = make_loop(total=3, folder=tmp_path / "other", checkpoint_seconds=0)
    never.run(pull(never))
    assert not checkpoints(Run(tmp_path / "other"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "weights.safetensors").write_bytes(b"torn"),
        lambda f: (f / "optimizer.safetensors").unlink(),
        lambda f: (f / "MANIFEST.json").unlink(),
        lambda f: shutil.rmtree(f) or f.mkdir(),
    ],
)
def test_a_torn_checkpoint_is_passed_over(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    loop = make_loop(total=6, folder=tmp_path, checkpoint_steps=1)
    unbroken = weight_after(loop)
    damage(tmp_path / "checkpoints" / "step-000005")
    again = make_loop(total=6, folder=tmp_path)
    assert again.resume()
    assert again.step == 4
    assert torch.equal(weight_after(again), unbroken)


def test_a_full_disk_ends_the_run_and_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(total=4, folder=tmp_path, checkpoint_steps=1)
    inner = pull(loop)

    def step(number: int) -> dict[str, float]:
        if number == 2:
            monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
        return inner(number)

    with pytest.raises(LetheonError, match=r"disk has 0\.0 MB free"):
        loop.run(step)
    assert [folder.name for folder in checkpoints(Run(tmp_path))] == ["step-000001", "step-000002"]


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path, tiny: LanguageModel) -> None:
    loop = make_loop(total=3, folder=tmp_path, checkpoint_steps=1)
    loop.run(pull(loop))
    other = Loop(tiny, {"x": tiny.model.model.norm.weight}, TrainSettings(**PLAIN), 3, run=Run(tmp_path))
    with pytest.raises(InputError, match="holds other parameters"):
        other.resume()


# Signals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_keeps_the_state_and_can_be_resumed(number: int, tmp_path: Path) -> None:
    unbroken = weight_after(make_loop(total=6))
    loop = make_loop(total=6, folder=tmp_path)
    before = signal.getsignal(number)
    inner = pull(loop)

    def step(at: int) -> dict[str, float]:
        if at == 2:
            os.kill(os.getpid(), number)
        return inner(at)

    with pytest.raises(Interrupted, match="stopped at step 3 of 6; its state is kept") as found:
        loop.run(step)
    assert found.value.exit_code == 75
    assert str(tmp_path) in found.value.remedy
    assert signal.getsignal(number) is before
    again = make_loop(total=6, folder=tmp_path)
    assert again.resume()
    assert again.step == 3
    assert torch.equal(weight_after(again), unbroken)


def test_without_a_folder_an_interrupted_run_says_that_nothing_was_kept() -> None:
    loop = make_loop(total=6)

    def step(at: int) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return pull(loop)(at)

    with pytest.raises(Interrupted, match="stopped at step 1") as found:
        loop.run(step)
    assert "nothing was kept" in found.value.remedy


# Batches and streams ------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(0, 9), st.integers(1, 4))
def test_micro_batches_lose_no_row_and_give_every_process_one(rows: int, size: int, processes: int) -> None:
    parts = micro_batches(range(rows), size, processes)
    assert [row for part in parts for row in part] == list(range(rows))
    assert all(len(part) <= size for part in parts) or size == 0
    assert len(parts) >= min(processes, rows) - (rows % processes > 0) * processes


@given(st.integers(1, 20), st.integers(1, 8), st.integers(1, 12))
def test_an_epoch_sees_every_row_once(rows: int, size: int, steps: int) -> None:
    batches = epochs_of(rows, size, steps, seed=0)
    assert len(batches) == steps
    per_epoch = -(-rows // size)
    if steps >= per_epoch:
        assert sorted(row for batch in batches[:per_epoch] for row in batch) == list(range(rows))


def test_streams_of_random_numbers_do_not_shift_each_other() -> None:
    seeds = {stream_seed(root, name, i) for root in (0, 1) for name in ("step", "epoch") for i in range(50)}
    assert len(seeds) == 200
    assert stream_seed(0, "step", 3) == stream_seed(0, "step", 3)


# Fine-tuning --------------------------------------------------------------------------------------------------------

ROWS = [Example(f"Who is {i}?", "x" * (1 + 3 * i)) for i in range(8)]


@pytest.mark.parametrize("size", [0, 4, 1])
def test_a_fine_tuning_gradient_is_the_mean_over_all_tokens_of_the_batch(size: int, tiny: LanguageModel) -> None:
    from letheon.core.scoring.likelihood import score

    rows = tiny.encoder().encode_all(ROWS)
    settings = TrainSettings(micro_batch_size=size, **PLAIN)
    batches = prepare_batches(tiny, rows, list(range(8)), settings, processes=1)
    total = sum(-batch.mean(score(tiny, batch).logp, "tokens") for batch in batches)
    expected = naive.gradients(naive.nll_of_tokens(tiny, rows), tiny)
    # sums of float32 in another order; a mean over micro-batches would be off by per cents
    assert naive.largest_difference(naive.gradients(total, tiny), expected) < 1e-5


def test_fine_tuning_repeats_resumes_and_lowers_the_loss(tmp_path: Path) -> None:
    settings = TrainSettings(**{**PLAIN, "learning_rate": 2e-3}, batch_size=4, checkpoint_steps=1)

    def train(**options: Any) -> tuple[str, list[float]]:
        model = load("tiny", device="cpu")
        outcome = finetune(model, ROWS, settings, 6, **options)
        return model.parameters_hash(), [metrics["loss"] for metrics in outcome.history]

    def crash(history: Sequence[Mapping[str, float]]) -> None:
        if len(history) == 3:
            raise RuntimeError("out of power")

    first, losses = train()
    assert train() == (first, losses)
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(RuntimeError):
        train(run=run, stop=crash)
    assert train(run=run) == (first, losses)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("options", [{"learning_rate": 0}, {"batch_size": 0}, {"micro_batch_size": -1}])
def test_settings_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as found:
        TrainSettings(**options)
    assert found.value.remedy in ("give a finite value above 0", "use 0 or more")


def test_steps_that_are_taken_again_have_one_line_each(tiny: LanguageModel, tmp_path: Path) -> None:
    run, settings = Run.create(tmp_path / "run", {}), TrainSettings(learning_rate=1e-3, batch_size=1)
    rows = [Example("Where?", "In Oslo.")]
    for _ in range(2):  # the second time as if it had been killed before its end was noted
        finetune(tiny, rows, settings, 2, run=run)
    lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [("stopped" in line, '"step": 2' in line) for line in lines] == [(False, False), (True, True)]
