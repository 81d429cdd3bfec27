"""Learning a stream: kills and restarts, evaluation that changes nothing, composition, bad input."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

import letheon
from letheon.core.errors import InputError, TrainingError
from letheon.core.model.models import LanguageModel
from letheon.core.parallel import Parallel
from letheon.papers.common.networks import network
from letheon.retain.compare import compare_strategies
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.learn import learn, resume
from letheon.retain.learner import Learner
from letheon.retain.models import mlp, mlp_for
from letheon.retain.page import render_learning, render_strategies
from letheon.retain.rows import TaskRows
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.ewc import EWC
from letheon.retain.strategies.replay import Replay
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Stream, task_of
from letheon.retain.streams.digits import permuted_digits, rotated_digits, split_digits
from letheon.testing.kills import Killed
from letheon.testing.strategies import sample_stream, sample_texts

SIZES = [8, 16, 16, 6]
OPTIONS: dict[str, Any] = {"epochs": 2, "batch_size": 5, "learning_rate": 0.05}


def weights(model: Any) -> torch.Tensor:
    module = model.model if isinstance(model, LanguageModel) else model
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def killed_at(step: int) -> Any:
    whole = Learner.one_step

    def one_step(self: Learner, rows: TaskRows) -> None:
        if self.step == step:
            raise Killed
        whole(self, rows)

    return patch.object(Learner, "one_step", one_step)


# Restarts


@pytest.mark.parametrize("strategy", ["replay:capacity=20+ewc", "der:capacity=20"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_that_is_killed_in_the_third_task_ends_in_the_same_bits(
    strategy: str, optimizer: str, tmp_path: Path
) -> None:
    given = OPTIONS | {"optimizer": optimizer, "momentum": 0.9, "learning_rate": 0.01, "checkpoint_steps": 3}
    model = nn.Sequential(*mlp(SIZES)[:2], nn.Dropout(0.2), *mlp(SIZES)[2:])  # dropout draws from torch's own generator
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = learn(model, sample_stream(), strategy, **given)
    expected = weights(model).clone()
    model.load_state_dict(start)
    with killed_at(2 * 8 + 5), pytest.raises(Killed):
        learn(model, sample_stream(), strategy, out=tmp_path / "run", **given)
    model.load_state_dict(start)
    again = learn(model, sample_stream(), strategy, out=tmp_path / "run", resume=True, **given)
    assert torch.equal(weights(model), expected)
    assert np.array_equal(again.matrix, whole.matrix)
    assert again.steps == whole.steps


def test_a_language_model_killed_in_the_third_task_ends_in_the_same_bits(tmp_path: Path) -> None:
    given = {"epochs": 1, "batch_size": 4, "adapter": "lora", "checkpoint_steps": 2}

    def run(**more: Any) -> Any:
        return learn("tiny", sample_texts(), "replay:capacity=9+ewc:fisher=empirical", device="cpu", **given, **more)

    whole = run()
    with killed_at(5), pytest.raises(Killed):
        run(out=tmp_path / "run")
    again = run(out=tmp_path / "run", resume=True)
    assert torch.equal(weights(again.model), weights(whole.model))
    assert letheon.load(tmp_path / "run/model", device="cpu").has_adapter


def test_a_run_is_only_continued_with_what_it_was_started_with(tmp_path: Path) -> None:
    learn(mlp(SIZES), sample_stream(), "replay:capacity=9", out=tmp_path / "run", **OPTIONS)
    for strategy, options, what in (
        ("naive", {}, "strategy"),
        ("replay:capacity=9", {"epochs": 3}, "settings"),
    ):
        with pytest.raises(InputError, match=f"another {what}"):
            learn(mlp(SIZES), sample_stream(), strategy, out=tmp_path / "run", resume=True, **(OPTIONS | options))
    with pytest.raises(InputError, match="another start"):
        learn(mlp(SIZES, 1), sample_stream(), "replay:capacity=9", out=tmp_path / "run", resume=True, **OPTIONS)
    with pytest.raises(InputError, match="already holds a run"):
        learn(mlp(SIZES), sample_stream(), out=tmp_path / "run", **OPTIONS)
    with pytest.raises(InputError, match="started from Python"):
        resume(tmp_path / "run")


# Evaluation


@pytest.mark.oracle("stability-gap")
def test_evaluation_changes_nothing_not_even_running_statistics_or_dropout() -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 6))

    models = [model(), model()]
    for one, every in zip(models, (0, 1), strict=True):
        learn(one, sample_stream(), "replay:capacity=20", evaluate_every=every, **OPTIONS)
    for first, second in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(first, second)


def test_accuracies_are_those_of_the_model_on_each_tasks_rows() -> None:
    for scenario in ("class", "task"):
        stream = sample_stream(scenario)  # type: ignore[arg-type]
        result = learn(mlp(SIZES), stream, **OPTIONS)
        for task, found in zip(stream, result.matrix[-1], strict=True):
            logits = result.model(task.test.inputs)
            if scenario == "task":
                others = [c for c in range(6) if c not in task.classes]
                logits[:, others] = -torch.inf
            assert found == pytest.approx(float((logits.argmax(1) == task.test.targets).double().mean()))


def test_every_step_is_evaluated_when_asked() -> None:
    result = learn(mlp(SIZES), sample_stream(), evaluate_every=2, evaluate_rows=4, **OPTIONS)
    assert result.curve.step == list(range(0, 25, 2))
    assert "windowed forgetting 10" in result.metrics


# Composition


class Doubled(Strategy):
    """A strategy without a settings class or a name, as a user may write one."""

    def __init__(self) -> None:
        super().__init__(settings=())

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> torch.Tensor:
        return learner.loss(outputs, rows)


def test_terms_add_up_and_hooks_run_from_left_to_right() -> None:
    parts = [*read_strategy("replay:capacity=20+ewc").parts, Doubled()]
    result = learn(mlp(SIZES), sample_stream(), Composition(parts, "three"), **OPTIONS)
    assert result.strategy == "three"
    assert result.learner.strategy.find(EWC).importance is not None
    assert len(result.learner.strategy.find(Replay).memory) == 20
    doubled = learn(mlp(SIZES), sample_stream(), Doubled(), epochs=1, batch_size=5, learning_rate=0.05)
    plain = learn(mlp(SIZES), sample_stream(), epochs=1, batch_size=5, learning_rate=0.1)
    assert torch.allclose(weights(doubled.model), weights(plain.model), atol=1e-6)


def test_two_strategies_cannot_decide_the_same() -> None:
    with pytest.raises(InputError, match="gdumb and joint both decide which rows are learned"):
        read_strategy("gdumb+joint")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("reply", "did you mean 'replay'"),
        ("replay:capasity=3", "did you mean 'capacity'"),
        ("replay:capacity=much", "found 'much'"),
        ("replay++ewc", "cannot be read"),
        ("npo", "of the kind objective"),
    ],
)
def test_a_strategy_that_cannot_be_read_is_refused(text: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        read_strategy(text)


def test_the_text_of_a_composition_names_what_differs_from_the_defaults() -> None:
    assert read_strategy("replay:capacity=200,batch=5 + ewc").text == "replay:batch=5+ewc"


# Bad input


def test_faults_name_the_place() -> None:
    model = mlp(SIZES)
    with pytest.raises(InputError, match="a memory of 1000 rows for a stream of 60"):
        learn(model, sample_stream(), "replay:capacity=1000")
    with pytest.raises(InputError, match=r"task task 3: class 5, the model's head has 4 outputs"):
        learn(mlp([8, 4]), sample_stream())
    with pytest.raises(InputError, match="cannot take rows of shape"):
        learn(mlp([5, 6]), sample_stream())
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        learn(model, sample_stream(), epoch=3)
    with pytest.raises(InputError, match="holds texts"):
        learn(model, sample_texts())
    with pytest.raises(InputError, match="der works with classes"):
        learn("tiny", sample_texts(), "der:capacity=5", device="cpu")
    with pytest.raises(TrainingError, match=r"not finite at step \d+ \(task task \d\)"):
        learn(model, sample_stream(), learning_rate=1e6, epochs=5)


def test_streams_that_cannot_be_are_refused() -> None:
    x, y = torch.zeros(4, 8), torch.tensor([0, 1, 0, 1])
    one, two = task_of("a", 0, (x, y), (x, y)), task_of("b", 1, (x, y + 1), (x, y + 1))
    with pytest.raises(InputError, match=r"task 2 \(b\): class 1 is also in task a"):
        Stream("s", (one, two))
    assert len(Stream("s", (one, two), "domain")) == 2
    with pytest.raises(InputError, match=r"task 1 \(none\): no train rows"):
        Stream("s", (task_of("none", 0, (x[:0], y[:0]), (x[:0], y[:0])),))
    with pytest.raises(InputError, match="two tasks are called 'a'"):
        Stream("s", (one, task_of("a", 1, (x, y + 2), (x, y + 2))))
    with pytest.raises(InputError, match="test rows of class 7"):
        task_of("a", 0, (x, y), (x, y + 7))
    with pytest.raises(InputError, match="not finite"):
        Stream("s", (task_of("a", 0, (x / 0, y), (x, y)),))
    with pytest.raises(InputError, match="4 train inputs and 3 classes"):
        task_of("a", 0, (x, y[:3]), (x, y))


# The page and the comparison


def test_a_run_folder_holds_everything_and_its_page_shows_hostile_names_as_text(tmp_path: Path) -> None:
    stream = sample_stream()
    hostile = Stream("<script>x</script>", stream.tasks)
    result = learn(mlp(SIZES), hostile, "replay:capacity=9", out=tmp_path / "run", evaluate_every=3, **OPTIONS)
    record = json.loads((tmp_path / "run/learned.json").read_text())
    assert record["metrics"]["forgetting"] == result.metrics["forgetting"]
    assert (tmp_path / "run/model/model.safetensors").is_file()
    page = render_learning(result)
    assert page.count("<svg") == 3
    assert "<image" not in page
    assert "<script>" not in page


def test_strategies_are_compared_from_the_same_weights(tmp_path: Path) -> None:
    found = compare_strategies(
        lambda seed: mlp(SIZES, seed), sample_stream(), ["naive", "replay:capacity=9", "ewc:strength=1e9"],
        seeds=(0, 1), out=tmp_path, **OPTIONS,
    )  # fmt: skip
    naive, replay, broken = found.entries
    assert naive.metrics["average accuracy"].n == 2
    assert replay.metrics["average accuracy"].value > naive.metrics["average accuracy"].value  # type: ignore[operator]
    assert naive.rows[0]["metrics"]["forward transfer"] is not None
    assert "not finite" in broken.error
    assert "did not run" in render_strategies(found)
    assert json.loads((tmp_path / "compare.json").read_text())["seeds"] == [0, 1]


def test_a_comparison_counts_parameters_and_what_strategies_hold(tmp_path: Path) -> None:
    """A network of 518 weights of 4 bytes; a row of 8 numbers and three integers of 8 bytes, with a key in a memory."""
    texts = ["naive", "replay:capacity=9", "ewc", "replay:capacity=9+si", "icarl:capacity=6", "joint"]
    found = compare_strategies(
        lambda seed: mlp(SIZES, seed), sample_stream(), texts, seeds=(0, 1), out=tmp_path, **OPTIONS
    )
    weights, row = 518 * 4, 8 * 4 + 3 * 8
    memory = 9 * (row + 8) + 3 * 8  # and three counts
    assert [entry.held_bytes for entry in found.entries] == [
        0, memory, 2 * weights, memory + 4 * weights, 6 * row + weights, 60 * row
    ]  # fmt: skip
    assert {entry.parameters for entry in found.entries} == {518}
    kept = json.loads((tmp_path / "compare.json").read_text())["entries"][3]["rows"][1]
    assert kept["held_bytes"]["replay/memory"] == memory
    assert kept["held_bytes"]["si/importance"] == weights
    assert 'data-label="held, kB">3.36<' in render_strategies(found)
    grown = compare_strategies(
        lambda seed: mlp(SIZES, seed), sample_stream("task"), ["progressive"], seeds=(0,), **OPTIONS
    )
    assert grown.entries[0].parameters > 3 * 518  # type: ignore[operator]
    for one in found.entries:
        for each in one.rows:
            del each["parameters"], each["held_bytes"]
    assert 'data-label="held, kB"><' in render_strategies(found), "runs of an earlier version"


def test_a_comparison_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from letheon.retain import compare

    learned: list[tuple[str, int]] = []

    def counted(model: Any, stream: Stream, text: str, *, settings: LearnSettings) -> Any:
        if len(learned) == 3:
            raise KeyboardInterrupt
        learned.append((text, settings.seed))
        return learn(model, stream, text, settings=settings)

    monkeypatch.setattr(compare, "learn", counted)
    stream = split_digits()
    both = ["naive", "replay:capacity=50"]
    with pytest.raises(KeyboardInterrupt):
        compare_strategies("mlp=8", stream, both, seeds=(0, 1), out=tmp_path)
    del learned[:2]
    found = compare_strategies("mlp=8", stream, both, seeds=(0, 1), out=tmp_path)
    assert learned == [("replay:capacity=50", 0), ("replay:capacity=50", 1)]
    assert [row["seed"] for row in found.entries[0].rows] == [0, 1]
    with pytest.raises(InputError, match="another stream"):
        compare_strategies("mlp=8", stream, both, seeds=(0, 1), out=tmp_path, epochs=2)
    monkeypatch.undo()
    nameless = partial(compare_strategies, lambda seed: mlp([64, 10], seed), stream, ["naive"], out=tmp_path / "x")
    nameless()
    with pytest.raises(InputError, match="without a name"):
        nameless()


@pytest.mark.slow
def test_several_jobs_compare_strategies_as_one_does(tmp_path: Path) -> None:
    both = ["naive", "replay:capacity=20"]
    given: dict[str, Any] = {"model": "mlp=8", "stream": "split-digits", "strategies": both, "seeds": (0,)}
    alone = compare_strategies(**given, out=tmp_path / "one")
    at_once = compare_strategies(**given, out=tmp_path / "two", parallel=Parallel(jobs=2))
    for one, other in zip(alone.entries, at_once.entries, strict=True):
        assert one.metrics == other.metrics
        assert [{**row, "seconds": 0} for row in one.rows] == [{**row, "seconds": 0} for row in other.rows]
    with pytest.raises(InputError, match="several jobs need names"):
        compare_strategies("mlp=8", split_digits(), both, out=tmp_path / "x", parallel=Parallel(jobs=2))


def test_the_shipped_streams() -> None:
    assert [task.classes for task in split_digits()] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert split_digits(scenario="domain").classes == 2
    assert {task.classes for task in permuted_digits()} == {tuple(range(10))}
    first, second = permuted_digits().tasks[:2]
    assert torch.equal(first.train.inputs.sort(1).values, second.train.inputs.sort(1).values)
    turned = rotated_digits((0.0, 90.0))
    square = turned.tasks[0].train.inputs[0].reshape(8, 8)
    assert torch.allclose(turned.tasks[1].train.inputs[0].reshape(8, 8), square.rot90(), atol=1e-5)
    assert mlp_for(split_digits(), "mlp=32")(torch.zeros(1, 64)).shape == (1, 10)


def test_the_planned_steps_follow_a_strategy_that_takes_more_of_them() -> None:
    """Joint training takes every earlier task's rows again: its progress must not count past its total."""
    planned: list[tuple[int, int]] = []

    class Counting(Strategy):
        def __init__(self) -> None:
            super().__init__(settings=())

        def after_step(self, learner: Learner, rows: TaskRows) -> None:
            planned.append((learner.step, learner.planned_steps()))

    learn(mlp(SIZES), sample_stream(), Composition([*read_strategy("joint").parts, Counting()], "two"), **OPTIONS)
    assert all(done <= total for done, total in planned)
    assert planned[-1][0] == planned[-1][1] > 2 * sum(-(-len(task.train) // 5) for task in sample_stream())


def test_a_last_batch_of_one_row_is_normalised_by_running_statistics() -> None:
    stream = sample_stream()
    rows = len(stream.tasks[0].train)
    model = network([8, 16, 6], 0, batch_norm=True)
    learned = learn(model, stream, "naive", epochs=1, batch_size=rows - 1, learning_rate=0.05)
    assert learned.steps == 2 * len(stream.tasks)
    assert all(module.training is False for module in learned.model.modules())
