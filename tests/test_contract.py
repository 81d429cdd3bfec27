"""Every registered method keeps the promises of `letheon.testing`; runs survive kills, signals, several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core import registry
from letheon.core.errors import InputError, Interrupted, TrainingError
from letheon.core.model.models import LanguageModel, load
from letheon.core.processes import is_main_process
from letheon.core.progress import be_quiet
from letheon.core.registry import method, methods
from letheon.core.rows.encoding import Batch
from letheon.core.runs import Run
from letheon.core.scoring.likelihood import Scores
from letheon.core.training.checkpoints import checkpoints
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings
from letheon.forget.objectives.npo import NPO
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.scopes.everything import Everything
from letheon.forget.updates.geometric import Geometric
from letheon.forget.updates.geometric import Settings as GeometricSettings
from letheon.testing import CheckFailed, check_method, sample_request
from letheon.testing.pool import Processes

# An option that names a file; the other option sets of the battery stand in the methods' own files.
FILES = {"gere": {"texts": str(Path(__file__).parent / "retain" / "strategies" / "general.jsonl"), "per_step": 1}}


def params() -> list[Any]:
    """One case per option set of every method; the first of a method is checked whole, the others quickly."""
    return [
        pytest.param(record.kind, record.name, FILES.get(record.name, one), number > 0,
                     id=f"{record.kind}-{record.name}" + "".join(f"-{v}" for v in one.values()),
                     marks=pytest.mark.contract(record.name))
        for record in methods() for number, one in enumerate(record.tiny)
    ]  # fmt: skip


@pytest.fixture
def brief_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """AltPO's alternates of few tokens: random weights write on to the limit, and the battery reads no answers."""
    monkeypatch.setattr("letheon.forget.objectives.altpo.LONGEST", 20)


@pytest.mark.usefixtures("brief_answers")
@pytest.mark.parametrize(("kind", "name", "options", "further"), params())
def test_a_registered_method_keeps_every_promise(
    kind: Any, name: str, options: dict[str, Any], further: bool, request: pytest.FixtureRequest
) -> None:
    check_method(name, kind, options=options, quick=further and not request.config.getoption("slow"))


def test_methods_that_no_short_run_shows_are_known() -> None:
    """`turns=False`: these go red on exchanged rows in their own files, by a naive formulation or by exchanging."""
    assert {record.name for record in methods() if not record.turns} == {
        "rmu", "attention_shifting", "sae", "selective_pruning", "attenuation", "undo",
    }  # fmt: skip


# The battery finds faults -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nothing:
    pass


class MeanOfBatch(LikelihoodObjective):
    """The fault of most repositories: a mean over the micro-batch."""

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return scores.logp.mean()


class OwnRandom(LikelihoodObjective):
    """Draws from a stream that no seed sets."""

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(scores.logp * random.SystemRandom().random(), "tokens")


class Exchanged(LikelihoodObjective):
    """Descends the forget answers' loss."""

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return -batch.mean(scores.logp, "tokens")


class NotANumber(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(scores.logp, "tokens") * float("nan")


class Forgetful(Geometric):
    """Keeps a history and does not save it."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


class Leaky(Everything):
    """Moves a weight that it does not select."""

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        chosen = super().select(model, request)
        with torch.no_grad():
            chosen.pop("model.norm.weight").mul_(1.5)
        return chosen


@pytest.mark.parametrize(
    ("kind", "faulty", "settings", "promise"),
    [
        ("objective", MeanOfBatch, LikelihoodSettings, "however it is split.*batch.mean"),
        ("objective", OwnRandom, LikelihoodSettings, "The same seed gives the same bits"),
        ("objective", Exchanged, LikelihoodSettings, "the reverse if both are exchanged"),
        ("objective", NotANumber, LikelihoodSettings, "three steps.*loss is not finite"),
        ("update", Forgetful, GeometricSettings, "killed between two steps.*state_dict"),
        ("scope", Leaky, Nothing, "leaves every other bit alone.*model.norm.weight"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_promise_is_named(
    kind: Any, faulty: type, settings: type, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods()
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    method(kind, "faulty", settings)(faulty)
    with pytest.raises(CheckFailed, match=rf"(?s){kind} faulty .*broken promise.*({promise})"):
        check_method("faulty", kind)


def test_what_is_of_another_kind_or_not_registered_cannot_be_checked() -> None:
    with pytest.raises(InputError, match="'npo' is of the kind objective, not edit"):
        check_method("npo", "edit")
    with pytest.raises(InputError, match="no objective is called 'nope'"):
        check_method("nope")


# Killed and interrupted processes -----------------------------------------------------------------------------------

STEPS = 16
RECIPE = "npo+geometric"
RUN: dict[str, Any] = {
    "learning_rate": 1e-3,
    "precision": "float32",
    "device": "cpu",
    "batch_size": 8,
    "steps": STEPS,
    "checkpoint_steps": 1,
    "seed": 4,
}
# Children come from a server that has the libraries loaded: real processes, without seconds of imports each.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["letheon.testing", "transformers.models.llama.modeling_llama", "accelerate", "peft"])


def child(folder: Path) -> None:
    """A whole run in a process of its own; an interruption ends it as the command line does."""
    torch.set_num_threads(1)  # sums are taken in one order
    be_quiet()
    try:
        forget("tiny", sample_request(), RECIPE, out=folder, **RUN)
    except Interrupted as error:
        sys.exit(error.exit_code)


def start(folder: Path) -> Any:
    process = SERVER.Process(target=child, args=(folder,))
    process.start()
    return process


def wait_for_step(process: Any, folder: Path, step: int) -> None:
    """Until the run has logged a step, or has ended."""
    metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 60
    while process.is_alive() and time.monotonic() < deadline:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= step:
            return
        time.sleep(0.002)


@pytest.fixture(scope="module")
def unbroken() -> str:
    """The hash of the weights at the end of a run that nothing disturbs."""
    return forget("tiny", sample_request(), RECIPE, **RUN).model.parameters_hash()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_that_is_killed_at_any_moment_ends_in_the_bits_of_an_unbroken_one(
    seed: int, unbroken: str, tmp_path: Path
) -> None:
    draw, folder = random.Random(seed), tmp_path / "run"
    process = start(folder)
    wait_for_step(process, folder, draw.randrange(1, STEPS - 5))
    time.sleep(draw.random() * 0.05)  # somewhere inside a step or a checkpoint
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"
    assert not (folder / "model").exists()
    result = resume(folder, device="cpu")
    assert result.outcome.steps == STEPS
    assert result.model.parameters_hash() == unbroken
    assert load(folder / "model", device="cpu").parameters_hash() == unbroken
    assert not list((folder / "checkpoints").glob(".*"))  # what was torn is gone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_code_75_and_it_can_be_resumed(
    number: signal.Signals, unbroken: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    wait_for_step(process, folder, 3)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 75
    assert checkpoints(Run(folder))
    assert resume(folder, device="cpu").model.parameters_hash() == unbroken


# Several processes --------------------------------------------------------------------------------------------------

TOGETHER = ["npo", "grad_diff+geometric:mode=realized", "gradient_ascent+geometric", "simnpo@lora"]
# Five rows of eight in micro-batches of two: the last batch has three, and one process less to do than the other.
SPLIT: dict[str, Any] = {
    "learning_rate": 1e-3,
    "precision": "float32",
    "device": "cpu",
    "batch_size": 5,
    "micro_batch_size": 2,
    "steps": 2,
    "checkpoint_steps": 1,
}


def record_gradients(folder: Path) -> None:
    """Run each recipe and keep the gradients that the optimizer is given at the first step."""
    for number, text in enumerate(TOGETHER):
        found: dict[str, Tensor] = {}

        def take(optimizer: torch.optim.Optimizer, *_: Any, found: dict[str, Tensor] = found) -> None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            if not found:
                found.update({str(i): parameter.grad.clone() for i, parameter in enumerate(parameters)})

        handle = register_optimizer_step_pre_hook(take)
        forget("tiny", sample_request(), text, out=folder / f"run-{number}", **SPLIT)
        handle.remove()
        if is_main_process():
            save_file(found, folder / f"{number}.safetensors")


def poison_one_process() -> str:
    """A loss that is not finite in process 1 alone must end both: the other would wait for ever."""
    original = NPO.terms

    def terms(self: NPO, model: LanguageModel, pair: Any) -> Any:
        found = original(self, model, pair)
        if pair.step == 1 and os.environ["RANK"] == "1" and found.forget is not None:
            found.forget = found.forget * float("nan")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NPO, "terms", terms)
        with pytest.raises(TrainingError, match="loss is not finite at step 1"):
            forget("tiny", sample_request(), "npo", **SPLIT)
    return "ended"


@pytest.fixture(scope="module")
def together(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes did."""
    folder = tmp_path_factory.mktemp("two")
    processes.run(record_gradients, folder)
    return folder


def test_two_processes_take_the_step_of_one(together: Path, tmp_path: Path) -> None:
    """Gradients of the first step agree to 1e-5 of their largest entry: the sums are the same, in another order.

    They are compared before Adam, which turns the rounding of an entry near zero into a step of full size.
    """
    record_gradients(tmp_path)
    for number, text in enumerate(TOGETHER):
        one, two = (load_file(folder / f"{number}.safetensors") for folder in (tmp_path, together))
        scale = max(float(tensor.abs().max()) for tensor in one.values())
        assert max(float((one[name] - two[name]).abs().max()) for name in one) / scale < 1e-5, text
        first, second = (first_line(folder / f"run-{number}") for folder in (tmp_path, together))
        for name in set(first) - {"time"}:
            # cosines and violations lie near zero and carry the rounding of large sums
            near_zero = name in ("alignment", "violation_before", "violation_after", "correction")
            assert second[name] == pytest.approx(first[name], rel=1e-5, abs=1e-4 if near_zero else 1e-6), name


def first_line(folder: Path) -> dict[str, float]:
    lines: dict[str, float] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    return lines


def test_one_process_writes_for_both(together: Path) -> None:
    for number in range(len(TOGETHER)):
        folder = together / f"run-{number}"
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
        assert (folder / "model").is_dir()


def test_a_loss_that_is_not_finite_in_one_process_ends_both(processes: Processes) -> None:
    assert processes.run(poison_one_process) == ["ended", "ended"]
