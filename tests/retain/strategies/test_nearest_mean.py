"""Nearest mean: predictions against means worked out by hand, and training that does not see them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.retain.classes import ClassLearner
from letheon.retain.learn import learn
from letheon.retain.learned import Learned
from letheon.retain.models import mlp
from letheon.retain.prototypes import UNSEEN, class_means
from letheon.testing.strategies import sample_stream

pytestmark = pytest.mark.oracle("nearest_mean")


def run(text: str, scenario: str = "class", **options: object) -> Learned:
    given = {"epochs": 4, "batch_size": 4, "learning_rate": 0.1} | options
    return learn(mlp([8, 16, 16, 6]), sample_stream(scenario), text, **given)  # type: ignore[arg-type]


def told(learner: ClassLearner, features: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The class, of those with a row, whose mean direction is nearest to each row's."""
    unit, classes = functional.normalize(features, dim=1), torch.unique(labels)
    means = torch.stack([functional.normalize(unit[labels == one].mean(0), dim=0) for one in classes])
    nearest = (functional.normalize(learner.features(rows), dim=1) @ means.T).argmax(1)
    return classes[nearest]


def test_means_are_unit_means_of_unit_features() -> None:
    """(4, 0) and (0, 1) of class 1 have the mean direction (1, 1), whatever their lengths; class 0 has no row."""
    means, known = class_means(torch.tensor([[4.0, 0.0], [0.0, 1.0], [0.0, -3.0]]), torch.tensor([1, 1, 2]), 3)
    assert known.tolist() == [False, True, True]
    assert torch.allclose(means, torch.tensor([[0.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, -1.0]]))


def test_beside_a_memory_the_means_are_those_of_its_rows_as_the_model_is() -> None:
    result = run("replay:capacity=18+nearest_mean")
    learner, memory = result.learner, result.learner.strategy.parts[0].memory
    stored = memory.rows()
    with torch.no_grad():
        features = learner.features(stored.inputs)
        for task, accuracy in zip(learner.stream.tasks, learner.evaluate(3)[0], strict=True):
            mine = told(learner, features, stored.targets, task.test.inputs)
            assert float((mine == task.test.targets).double().mean()) == pytest.approx(accuracy)
    assert result.matrix[-1].tolist() == pytest.approx(learner.evaluate(3)[0])


def test_without_a_memory_a_class_has_the_mean_of_its_own_task_s_end() -> None:
    result = run("naive+nearest_mean")
    learner, strategy = result.learner, result.learner.strategy.parts[1]
    assert bool(strategy.known.all())
    last = learner.train_rows(learner.stream.tasks[2])
    with torch.no_grad():
        means, known = class_means(learner.features(last.inputs), last.targets, 6)
    assert known.tolist() == [False] * 4 + [True] * 2
    assert torch.allclose(strategy.means[4:], means[4:], atol=1e-6)
    first = learner.train_rows(learner.stream.tasks[0])
    with torch.no_grad():
        aged, _ = class_means(learner.features(first.inputs), first.targets, 6)
    assert not torch.allclose(strategy.means[:2], aged[:2], atol=1e-2), "the model has moved since"


def test_a_task_in_progress_is_told_by_the_rows_that_it_learns() -> None:
    seen: list[tuple[int, list[float]]] = []
    stream = sample_stream()
    learn(
        mlp([8, 16, 16, 6]),
        stream,
        "naive+nearest_mean",
        batch_size=4,
        evaluate_every=1,
        on_evaluation=lambda learner: seen.append(
            (learner.task, learner.strategy.predict(learner, learner.train_rows(stream.tasks[2]))[0].tolist())
        ),
    )
    assert all(UNSEEN not in logits for task, logits in seen if task == 2)
    assert all(logits[4] == UNSEEN for task, logits in seen if task == 1)


def test_training_does_not_see_it() -> None:
    for text in ("replay:capacity=9", "lwf", "naive"):
        plain, ours = run(text), run(f"{text}+nearest_mean")
        for mine, theirs in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_in_a_task_incremental_stream_only_the_task_s_classes_compete() -> None:
    result = run("naive+nearest_mean", "task")
    assert float(result.matrix[-1].min()) > 0.5
    assert float(result.matrix[-1].mean()) >= float(run("naive+nearest_mean").matrix[-1].mean())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("icarl:capacity=12+nearest_mean", "both decide how classes are told"),
        ("dual_memory+nearest_mean", "of its own"),
    ],
)
def test_a_strategy_that_tells_classes_by_itself_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        run(text)
