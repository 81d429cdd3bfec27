"""Separated softmax: the loss of old and new rows by hand, and the gradients that it does not have."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.retain.classes import ClassLearner
from letheon.retain.composition import read_strategy
from letheon.retain.learn import learn, make_learner
from letheon.retain.models import mlp
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.separated_softmax import separated
from letheon.testing.strategies import sample_stream

pytestmark = pytest.mark.oracle("separated_softmax")


def learner_of(text: str, task: int = 1) -> ClassLearner:
    learner = make_learner(mlp([8, 16, 16, 6]), sample_stream(), read_strategy(text), LearnSettings(batch_size=5))
    learner.strategy.prepare(learner)
    learner.task = task
    assert isinstance(learner, ClassLearner)
    return learner


def test_logits_by_hand() -> None:
    """Of classes 0 (old), 1 and 2 (new) and 3 (later) an old row sees 0, a new one 1 and 2."""
    logits = torch.tensor([[1.0, 2.0, 3.0, 9.0], [1.0, 2.0, 3.0, 9.0]])
    old, new = torch.tensor([True, False, False, False]), torch.tensor([False, True, True, False])
    found = separated(logits, torch.tensor([True, False]), old, new)
    assert found.tolist() == [[1.0, -math.inf, -math.inf, -math.inf], [-math.inf, 2.0, 3.0, -math.inf]]


def test_the_loss_of_a_step_is_two_softmaxes_over_their_own_classes() -> None:
    """In task 1 of two classes each, new rows choose among classes 2 and 3 and replayed ones among 0 and 1."""
    learner = learner_of("replay:capacity=20+separated_softmax")
    memory = learner.strategy.parts[0].memory
    old = learner.train_rows(learner.stream.tasks[0]).part(0, 6)
    memory.add(old)
    new = learner.train_rows(learner.stream.tasks[1]).part(0, 6)
    mine = learner.total_loss(new)
    theirs = functional.cross_entropy(learner.model(new.inputs)[:, 2:4], new.targets - 2)
    theirs = theirs + functional.cross_entropy(learner.model(old.inputs)[:, 0:2], old.targets)
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_a_new_row_has_no_gradient_on_old_and_later_classes() -> None:
    learner = learner_of("naive+separated_softmax")
    rows = learner.train_rows(learner.stream.tasks[1])
    outputs = learner.outputs(rows).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(learner.loss(outputs, rows), outputs)
    assert float(gradient[:, [0, 1, 4, 5]].abs().max()) == 0
    assert float(gradient[:, 2:4].abs().min()) > 0


def test_classes_are_still_told_by_all_logits() -> None:
    learner = learner_of("naive+separated_softmax")
    rows = learner.train_rows(learner.stream.tasks[0])
    assert torch.equal(learner.strategy.predict(learner, rows), learner.model(rows.inputs))


def test_old_classes_keep_more_of_their_logits_than_under_one_softmax() -> None:
    """Without replay one softmax teaches every new row that it is of no old class."""
    runs = [
        learn(mlp([8, 16, 16, 6]), sample_stream(), text, epochs=4, batch_size=4, learning_rate=0.1)
        for text in ("naive+separated_softmax", "naive")
    ]
    assert runs[0].matrix[-1, :2].mean() > runs[1].matrix[-1, :2].mean() + 0.2


def test_a_strategy_whose_loss_is_no_cross_entropy_is_refused() -> None:
    with pytest.raises(InputError, match="no cross-entropy"):
        learn(mlp([8, 16, 16, 6]), sample_stream(), "icarl:capacity=12+separated_softmax", batch_size=4)
