"""The battery for continual-learning strategies, which `letheon.testing.check_method` runs for the kind `strategy`.

It uses a stream of three small tasks of tensors, and one of texts if the strategy supports them. Each check's first
line is the promise that is broken when it fails.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from letheon.core.atomic import canonical_hash
from letheon.core.model.models import load
from letheon.core.registry import find
from letheon.core.rows.examples import Example
from letheon.retain.learn import learn
from letheon.retain.learned import Learned
from letheon.retain.learner import Learner
from letheon.retain.models import mlp
from letheon.retain.stream import Scenario, Stream, task_of
from letheon.retain.streams.texts import text_stream
from letheon.testing.kills import Killed, killed_in_learning
from letheon.testing.trial import demand, with_options


class StrategyTrial:
    """A strategy under check on one kind of learner, and the run that most checks look at."""

    def __init__(self, text: str, kind: str, scenario: Scenario = "class") -> None:
        self.text, self.kind = text, kind
        self.stream = sample_texts() if kind == "texts" else sample_stream(scenario)

    def run(self, **options: Any) -> Learned:
        """Run the strategy on fresh weights."""
        model = load("tiny", device="cpu") if self.kind == "texts" else mlp([8, 16, 16, 6])
        rate = 1e-3 if self.kind == "texts" else 0.05
        epochs = 1 if self.kind == "texts" else 2
        given = {"epochs": epochs, "batch_size": 4, "learning_rate": rate, **options}
        return learn(model, self.stream, self.text, **given)

    @cached_property
    def first(self) -> Learned:
        """The run under seed 0."""
        return self.run()


def trials(name: str, options: Mapping[str, Any]) -> list[StrategyTrial]:
    """One trial per kind of learner that the strategy supports; a small memory, and task numbers if it needs them."""
    record = find("strategy", name)
    given = dict(options)
    if any(field.name == "capacity" for field in fields(record.settings)):
        given.setdefault("capacity", 9)
    scenario: Scenario = "task" if "task number" in record.needs else "class"
    kinds = getattr(record.factory, "kinds", frozenset({"classes"}))
    return [StrategyTrial(with_options(name, given), kind, scenario) for kind in sorted(kinds)]


def sample_stream(scenario: Scenario = "class") -> Stream:
    """Three tasks of two classes: blobs in eight dimensions, 20 training and 10 test rows each."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 8, generator=generator) * 2

    def rows(classes: list[int], each: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.tensor(classes).repeat(each)
        return centres[labels] + torch.randn(len(labels), 8, generator=generator), labels

    tasks = [task_of(f"task {i + 1}", i, rows([2 * i, 2 * i + 1], 10), rows([2 * i, 2 * i + 1], 5)) for i in range(3)]
    return Stream("blobs", tuple(tasks), scenario)


def sample_texts() -> Stream:
    """Three tasks of six rows of unlike lengths, and two test rows each."""

    def rows(who: str, n: int) -> list[Example]:
        return [Example(f"What does {who} {i} eat?", "figs and plums"[: 4 + 2 * i], id=f"{who}-{i}") for i in range(n)]

    return text_stream("meals", {who: (rows(who, 6), rows(who, 8)[6:]) for who in ("Ann", "Bob", "Cid")})


def check_learns(trial: StrategyTrial) -> None:
    """It learns every task, with finite losses, and evaluates all tasks after each."""
    result = trial.first
    demand(result.curve.matrix().shape == (4, 3), "the matrix is not [tasks + 1, tasks]")
    demand(bool(torch.isfinite(torch.tensor(result.curve.matrix("loss"))).all()), "a loss that is not finite")
    demand(result.steps > 0, "no step was taken")


def check_repeats(trial: StrategyTrial) -> None:
    """The same seed gives the same bits, whether or not it is evaluated during training."""
    again = trial.run(evaluate_every=1)
    demand(_hash(trial.first) == _hash(again), "two runs differ", "draw from learner.generator; leave outputs pure")


def check_other_seed_differs(trial: StrategyTrial) -> None:
    """Another seed gives another result."""
    demand(_hash(trial.first) != _hash(trial.run(seed=1)), "seeds 0 and 1 end in the same state")


def check_resumes(trial: StrategyTrial) -> None:
    """A run that is killed in the first, second and third task and continued ends in the bits of an unbroken one."""
    total = trial.first.steps
    for kill_at in (4, total // 2, total - 1) if trial.kind == "classes" else (total - 1,):
        with tempfile.TemporaryDirectory(prefix="letheon-check-") as scratch:
            out = Path(scratch) / "run"
            with killed_in_learning(kill_at), suppress(Killed):
                trial.run(out=out, checkpoint_steps=kill_at)
            result = trial.run(out=out, checkpoint_steps=kill_at, resume=True)
        same = _hash(result) == _hash(trial.first)
        demand(same, f"killed at step {kill_at} of {total}, it ends elsewhere", "name what must survive in `keeps`")
        demand(result.steps == total, f"killed at step {kill_at}, it takes {result.steps} steps instead of {total}")


CHECKS = (check_learns, check_repeats, check_other_seed_differs, check_resumes)


def _hash(result: Learned) -> str:
    """Hash the weights and the strategy's state: a strategy may learn outside the model."""
    learner: Learner = result.learner
    state = learner.weights_to_keep() | learner.strategy.state_dict()
    return canonical_hash({name: _plain(tensor) for name, tensor in state.items()})


def _plain(tensor: torch.Tensor) -> str:
    return hashlib.sha256(
        tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    ).hexdigest()
