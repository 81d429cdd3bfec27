"""iCaRL: herding, the loss and the nearest mean against numbers worked out by hand, and its rows in the loop."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional

from letheon.retain.learn import learn
from letheon.retain.learned import Learned
from letheon.retain.models import mlp
from letheon.retain.prototypes import UNSEEN, nearest_mean
from letheon.retain.strategies.icarl import ICaRL, Settings, herded, icarl_loss
from letheon.testing.strategies import sample_stream

pytestmark = pytest.mark.oracle("icarl")


def run(text: str = "icarl:capacity=12", **options: object) -> Learned:
    given = {"epochs": 4, "batch_size": 4, "learning_rate": 0.5} | options
    return learn(mlp([8, 16, 16, 6]), sample_stream(), text, **given)  # type: ignore[arg-type]


def test_herding_takes_the_row_that_brings_the_mean_nearest_each_time() -> None:
    """Of 0, 1, 5, 6 with mean 3: 1 (before 5, as near), then 5, whose mean with 1 is 3; then 0 or 6."""
    assert herded(torch.tensor([[0.0], [1.0], [5.0], [6.0]]), 2).tolist() == [1, 2]
    features = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    chosen: list[int] = []
    for _ in range(4):
        left = [i for i in range(7) if i not in chosen]
        chosen.append(min(left, key=lambda i: float((features.mean(0) - features[[*chosen, i]].mean(0)).norm())))
    assert herded(features, 4).tolist() == chosen
    assert sorted(herded(features, 99).tolist()) == list(range(7))


def test_the_loss_distils_old_sigmoids_and_has_one_hot_targets_for_new_classes() -> None:
    logits, old = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]]), torch.tensor([[1.0], [-2.0]])
    labels, total = torch.tensor([2, 0]), 0.0
    for i, c in itertools.product(range(2), range(3)):
        target = float(old[i, 0].sigmoid()) if c == 0 else float(labels[i] == c)
        p = float(logits[i, c].sigmoid())
        total -= target * torch.tensor(p).log().item() + (1 - target) * torch.tensor(1 - p).log().item()
    assert float(icarl_loss(logits, old, labels)) == pytest.approx(total / 6, rel=1e-5)
    plain = functional.binary_cross_entropy_with_logits(logits, functional.one_hot(labels, 3).float())
    assert float(icarl_loss(logits, None, labels)) == pytest.approx(float(plain))


def test_a_class_is_told_by_the_direction_of_its_mean() -> None:
    means, known = torch.eye(3), torch.tensor([True, True, False])
    logits = nearest_mean(torch.tensor([[9.0, 1.0, 0.0], [0.1, 0.2, 5.0]]), means, known)
    assert logits.argmax(1).tolist() == [0, 1]
    assert bool((logits[:, 2] == UNSEEN).all())
    assert float(logits[0, 0]) == pytest.approx(2 * 9 / 82**0.5 - 2, rel=1e-5)


def test_exemplars_are_cut_to_equal_numbers_and_joined_to_the_next_task() -> None:
    result = run()
    strategy = result.learner.strategy.find(ICaRL)
    assert {label: len(kept["targets"]) for label, kept in strategy.exemplars.items()} == dict.fromkeys("012345", 2)
    last = strategy.rows(result.learner, result.learner.stream.tasks[2])
    assert torch.bincount(last.task).tolist() == [4, 4, 20 + 4]


def test_of_an_old_class_the_exemplars_that_were_chosen_first_stay() -> None:
    seen: list[torch.Tensor] = []

    class Watched(ICaRL):
        def after_task(self, learner: Any, task: Any) -> None:
            super().after_task(learner, task)
            seen.append(self.exemplars["0"]["inputs"].clone())

    learn(mlp([8, 16, 16, 6]), sample_stream(), Watched(Settings(capacity=12)), batch_size=4)
    assert [len(rows) for rows in seen] == [6, 3, 2]
    assert torch.equal(seen[1], seen[0][:3])
    assert torch.equal(seen[2], seen[0][:2])


def test_old_classes_are_told_apart_with_exemplars_and_not_without() -> None:
    ours, naive = run().matrix[-1, 0], run("naive").matrix[-1, 0]
    assert ours > naive + 0.3


def test_the_old_model_is_the_one_before_the_task() -> None:
    """In the first step of a task, distillation has no gradient: old and new sigmoids are equal."""
    result = run(epochs=1)
    learner = result.learner
    strategy, learner.task = learner.strategy.find(ICaRL), 2
    strategy.before_task(learner, learner.stream.tasks[2])
    rows = learner.train_rows(learner.stream.tasks[2])
    logits = learner.forward(rows).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(strategy.loss(learner, rows, logits), logits)
    assert float(gradient[:, :4].abs().max()) < 1e-7
    assert float(gradient[:, 4:].abs().max()) > 1e-3
