"""MAS: importances by hand and row by row, its penalty without a half, weights held where outputs hang on them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from letheon.core.model.models import load
from letheon.retain.classes import ClassLearner
from letheon.retain.composition import read_strategy
from letheon.retain.learn import learn, make_learner
from letheon.retain.learner import Learner
from letheon.retain.models import mlp
from letheon.retain.row_gradients import flat, output_sensitivity
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.mas import MAS
from letheon.retain.stream import Scenario, Stream, task_of
from letheon.testing.strategies import sample_stream, sample_texts

pytestmark = pytest.mark.oracle("mas")
SIZES = [8, 16, 16, 6]


def learner_of(stream: Stream, text: str = "mas", model: nn.Module | None = None) -> ClassLearner:
    learner = make_learner(model or mlp(SIZES), stream, read_strategy(text), LearnSettings(batch_size=5))
    learner.strategy.prepare(learner)
    learner.task = 0
    assert isinstance(learner, ClassLearner)
    return learner


def test_the_importance_by_hand() -> None:
    """f = (w x, u x) with w = 2, u = -1, rows 1 and -3: |∂ ‖f‖² / ∂ w| = |2 w x²| = 4 and 36, for u 2 and 18."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0], [-1.0]]))
    rows = (torch.tensor([[1.0], [-3.0]]), torch.tensor([0, 1]))
    stream = Stream("two", (task_of("one", 0, rows, rows),), "class")
    learner = learner_of(stream, model=model)
    (found,) = output_sensitivity(learner, learner.train_rows(stream.tasks[0]))
    assert found.flatten().tolist() == [20.0, 10.0]


class Twice(nn.Module):
    """A network whose layer is passed twice, so that rows are mapped instead."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(8, 8), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


@pytest.mark.parametrize("kind", ["layers", "mapped"])
@pytest.mark.parametrize("scenario", ["class", "task"])
def test_the_importance_is_the_mean_of_each_row_s_absolute_gradient(scenario: Scenario, kind: str) -> None:
    """Not the absolute value of a mean: rows of opposite gradients would cancel."""
    torch.manual_seed(0)
    learner = learner_of(sample_stream(scenario), model=Twice() if kind == "mapped" else None)
    rows = learner.train_rows(learner.stream.tasks[1])
    total = torch.zeros(sum(weight.numel() for weight in learner.weights))
    signed = torch.zeros_like(total)
    for i in range(len(rows)):
        outputs = learner.model(rows.inputs[i : i + 1])
        own = outputs[:, 2:4] if scenario == "task" else outputs
        gradient = flat(torch.autograd.grad(own.square().sum(), learner.weights))
        total, signed = total + gradient.abs() / len(rows), signed + gradient / len(rows)
    found = flat(output_sensitivity(learner, rows))
    assert torch.allclose(found, total, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, signed.abs(), rtol=0.1)


def test_a_text_s_importance_is_of_its_answer_s_logits() -> None:
    learner = make_learner(load("tiny", device="cpu"), sample_texts(), read_strategy("mas"), LearnSettings())
    learner.task = 0
    rows = learner.train_rows(learner.stream.tasks[0]).part(0, 1)
    logits = learner.outputs(rows).logits
    wanted = [one.abs() for one in learner.gradient_of(logits.square().sum() / len(logits))]
    for mine, theirs in zip(output_sensitivity(learner, rows), wanted, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_strength_times_importance_times_the_square() -> None:
    learner = learner_of(sample_stream(), "mas:strength=7.0")
    mas = learner.strategy.find(MAS)
    mas.importance = [torch.rand_like(weight) for weight in learner.weights]
    mas.anchor = [torch.randn_like(weight) for weight in learner.weights]
    learner.set_gradients([torch.zeros_like(weight) for weight in learner.weights])
    mas.after_backward(learner, learner.train_rows(learner.stream.tasks[0]))
    terms = zip(mas.importance, learner.weights, mas.anchor, strict=True)
    penalty = 7.0 * torch.stack([(a * (w - c).square()).sum() for a, w, c in terms]).sum()
    for mine, theirs in zip(learner.gradients(), torch.autograd.grad(penalty, learner.weights), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5)


def test_importances_add_up_over_tasks_and_the_anchor_is_the_last_task_s_end() -> None:
    learner = learner_of(sample_stream(), "mas:samples=0")
    mas = learner.strategy.find(MAS)
    parts = [flat(output_sensitivity(learner, learner.train_rows(task))) for task in learner.stream.tasks[:2]]
    for task in learner.stream.tasks[:2]:
        mas.after_task(learner, task)
    assert torch.allclose(flat(mas.importance), parts[0] + parts[1])
    assert torch.equal(flat(mas.anchor), flat([weight.detach() for weight in learner.weights]))


def test_weights_that_outputs_hang_on_move_less_under_a_strong_penalty() -> None:
    assert moved_after_the_first_task("mas:strength=2.0") < 0.5 * moved_after_the_first_task("mas:strength=1e-9")


def moved_after_the_first_task(text: str) -> float:
    """The mean square that weights have moved by since the first task, each by its importance then."""
    ends: list[torch.Tensor] = []
    importances: list[torch.Tensor] = []

    def see(learner: Learner) -> None:
        ends.append(flat([weight.detach().clone() for weight in learner.weights]))
        if learner.task == 0:
            importances.append(flat(learner.strategy.find(MAS).importance))

    learn(mlp(SIZES), sample_stream(), text, epochs=4, batch_size=5, learning_rate=0.02, on_evaluation=see)
    return float((importances[0] * (ends[-1] - ends[1]).square()).sum() / importances[0].sum())
