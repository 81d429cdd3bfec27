"""Growing dual memory: when a node is added, how it moves and tires, by hand; and what replay without rows is worth."""

from __future__ import annotations

import pytest
import torch

from letheon.retain.composition import read_strategy
from letheon.retain.learn import learn, make_learner
from letheon.retain.models import mlp
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.dual_memory import DualMemory, Growing, Settings, habituation
from letheon.testing.strategies import sample_stream

pytestmark = pytest.mark.oracle("dual_memory")


def layer(*points: float, **options: float) -> Growing:
    one = Growing(1, 2, Settings(capacity=10, **options))  # type: ignore[arg-type]
    for point in points:
        one.see(torch.tensor([point]), 0)
    return one


def test_habituation_falls_to_its_fixed_point() -> None:
    """h = 1 falls by τ at once and ends at 1 - 1/κ, where τκ(1 - h) = τ."""
    assert habituation(1.0, 0.3) == pytest.approx(0.7)
    h = 1.0
    for _ in range(200):
        h = habituation(h, 0.3)
    assert h == pytest.approx(1 - 1 / 1.05)


def test_the_best_node_moves_by_its_rate_and_its_freshness() -> None:
    one = layer(0.0, 1.0, rate=0.5)
    one.see(torch.tensor([0.2]), 0)
    assert float(one.weight[0]) == pytest.approx(0.5 * 1.0 * 0.2)
    assert float(one.habit[0]) == pytest.approx(0.7)
    one.see(torch.tensor([0.2]), 0)
    assert float(one.weight[0]) == pytest.approx(0.1 + 0.5 * 0.7 * 0.1)


def test_a_neighbour_moves_by_a_hundredth_of_the_rate_and_its_own_freshness() -> None:
    one = layer(0.0, 1.0, rate=0.5)
    one.see(torch.tensor([0.2]), 0)  # joins the two
    assert float(one.weight[1]) == 1.0
    one.habit[1] = 0.8
    one.see(torch.tensor([0.2]), 0)
    assert float(one.weight[1]) == pytest.approx(1.0 + 0.01 * 0.5 * 0.8 * (0.2 - 1.0))
    assert float(one.habit[1]) == pytest.approx(habituation(0.8, 0.1))


def test_a_node_is_added_halfway_only_where_the_best_is_tired_and_far() -> None:
    one = layer(0.0, 1.0, activity=0.5)
    far = torch.tensor([3.0])
    one.see(far, 0)
    assert one.size == 2, "the best node is fresh: it moves instead"
    one.weight[1], one.habit[1] = 1.0, 0.05
    one.see(far, 0)
    assert one.size == 3
    assert float(one.weight[2]) == pytest.approx((1.0 + 3.0) / 2)


def test_a_new_node_takes_the_edge_between_the_two_nearest() -> None:
    """Marsland et al. 2002: edges to the best and to the second best, and none between these two any more."""
    one = layer(0.0, 1.0, activity=0.5)
    one.see(torch.tensor([0.9]), 0)
    assert float(one.age[0, 1]) == float(one.age[1, 0]) == 0.0
    one.habit[1] = 0.05
    one.see(torch.tensor([3.0]), 0)
    edges = {(i, j) for i, j in (one.age >= 0).nonzero().tolist() if i < j}
    assert edges == {(0, 2), (1, 2)}


def test_the_semantic_layer_grows_only_on_errors() -> None:
    one = layer(0.0, 1.0, activity=0.5)
    one.habit[1] = 0.05
    one.see(torch.tensor([3.0]), 0, grow_on_error=True)
    assert one.size == 2, "the label was right"
    one.habit[1] = 0.05
    one.see(torch.tensor([5.0]), 1, grow_on_error=True)
    assert one.size == 3


def test_trajectories_follow_the_most_frequent_transitions() -> None:
    one = layer(0.0, 1.0)
    one.follows.zero_()
    one.follows[0, 1], one.follows[1, 0] = 2.0, 1.0
    assert one.trajectories(2) == [[0, 1, 0], [1, 0, 1]]


def test_after_a_task_the_semantic_layer_sees_the_episodic_transitions_and_grows_only_on_errors() -> None:
    """0 leads to 1: the paths 0, 1 and 1. The tired node at 9 is far from both, but its label is right: it moves."""
    learner = make_learner(
        mlp([8, 6]), sample_stream(), read_strategy("dual_memory:capacity=10,replay=2"), LearnSettings()
    )
    learner.strategy.prepare(learner)
    dual = learner.strategy.find(DualMemory)
    dual.episodic, dual.semantic, expected = layer(0.0, 1.0), layer(9.0, 20.0), layer(9.0, 20.0)
    dual.semantic.habit[:2] = expected.habit[:2] = 0.05
    dual.after_task(learner, learner.stream.tasks[0])
    for point in (0.0, 1.0, 1.0):
        expected.see(torch.tensor([point]), 0, grow_on_error=True)
    assert dual.semantic.size == 2
    assert float(dual.semantic.weight[0]) < 9.0
    assert dual.semantic.label[:, 0].sum() == 2 + 3
    for mine, theirs in zip(dual.semantic.state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_it_learns_the_stream_without_a_gradient_and_keeps_the_network_as_it_was() -> None:
    model = mlp([8, 16, 16, 6])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    result = learn(model, sample_stream(), DualMemory(Settings(capacity=60)), epochs=3, batch_size=5)
    assert result.metrics["average accuracy"] > 0.6  # type: ignore[operator]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
