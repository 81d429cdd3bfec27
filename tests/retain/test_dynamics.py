"""Parameter dynamics: roles, distances by hand, what a watched run records, and the choice by sensitivity."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.papers.common.networks import network
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.dynamics import (
    DynamicsWatch,
    ParameterDynamics,
    movement,
    relative_movement,
    roles,
    selected,
    sensitivity,
    state_of,
)
from letheon.retain.learn import learn
from letheon.testing.strategies import sample_stream, sample_texts

pytestmark = pytest.mark.oracle("fpf")


def test_every_tensor_has_its_role_and_running_statistics_are_among_them() -> None:
    assert roles(network([8, 4, 4, 6], 0, batch_norm=True)) == {
        "0.weight": "bottom", "0.bias": "bottom",
        "1.weight": "norm", "1.bias": "norm", "1.running_mean": "statistics", "1.running_var": "statistics",
        "3.weight": "hidden", "3.bias": "hidden",
        "4.weight": "norm", "4.bias": "norm", "4.running_mean": "statistics", "4.running_var": "statistics",
        "6.weight": "head",
    }  # fmt: skip


def test_the_roles_of_a_residual_network_and_of_a_transformer() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Block(), nn.Flatten(), nn.Linear(4, 2))
    found = roles(net)
    assert (found["0.weight"], found["2.conv.weight"], found["4.weight"]) == ("bottom", "hidden", "head")
    assert (found["2.bn.weight"], found["2.bn.running_var"]) == ("norm", "statistics")
    tiny = roles(load("tiny", device="cpu").model)
    assert tiny["model.layers.0.input_layernorm.weight"] == tiny["model.norm.weight"] == "norm"
    assert tiny["model.layers.0.self_attn.q_proj.weight"] == "bottom"
    assert tiny["model.layers.2.mlp.down_proj.weight"] == "hidden"
    assert {role for name, role in tiny.items() if "lm_head" in name} <= {"head"}
    assert "head" in tiny.values()


def test_distances_by_hand() -> None:
    """A way of (3, 4): 5 / 2 by L2, 7 / 2 by L1, 5 / 10 relative to a norm of 10."""
    now, before = {"w": torch.tensor([9.0, 12.0])}, {"w": torch.tensor([6.0, 8.0])}
    assert movement(now, before) == {"w": 2.5}
    assert movement(now, before, "l1") == {"w": 3.5}
    assert relative_movement(now, before) == {"w": pytest.approx(0.5)}
    still = {"w": torch.zeros(2)}
    assert relative_movement(still, still) == {"w": 0.0}
    with pytest.raises(InputError, match="l2 or l1"):
        ParameterDynamics(nn.Linear(1, 1), "max")  # type: ignore[arg-type]


def test_snapshots_are_compared_with_the_epoch_before_and_the_task_before() -> None:
    model = nn.Linear(1, 1, bias=False)
    dynamics = ParameterDynamics(model)
    path = {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 5.0, (1, 1): 5.5, (2, 0): 4.0, (2, 1): 4.0}
    for (task, epoch), value in path.items():
        model.weight.data.fill_(value)
        dynamics.snapshot(task, epoch)
    within = [move.distance for move in dynamics.moves if move.kind == "within"]
    assert within == pytest.approx([1, 0.5, 0])
    assert dynamics.across() == {"weight": pytest.approx((4 + 3.5 + 1 + 1.5) / 4)}
    assert dynamics.across(relative=True) == {"weight": pytest.approx((4 / 1 + 3.5 / 2 + 1 / 5 + 1.5 / 5.5) / 4)}
    assert dynamics.by_role(dynamics.across()) == {"head": pytest.approx(2.5)}


def test_sensitivity_is_over_the_median_and_a_budget_ends_the_choice() -> None:
    scores = sensitivity({"a": 4.0, "b": 1.0, "c": 2.0, "statistics": 8.0})
    assert scores == {
        "a": pytest.approx(4 / 3),
        "b": pytest.approx(1 / 3),
        "c": pytest.approx(2 / 3),
        "statistics": pytest.approx(8 / 3),
    }
    sizes = {"a": 10, "b": 80, "c": 10}
    assert selected(scores, sizes, 0.1) == ["a"]
    assert selected({"a": 3.0, "b": 2.0, "c": 1.5}, sizes, 0.2) == ["a"], "b would be beyond the budget"
    assert selected({"a": 3.0, "b": 0.5, "c": 1.5}, sizes, 0.2) == ["a", "c"]
    assert selected({"a": 0.1, "b": 0.5, "c": 0.2}, sizes, 0.01) == ["b"], "at least one"


def test_a_watched_run_has_every_epoch_and_its_last_across_is_that_of_the_weights() -> None:
    watch, ends = DynamicsWatch(), []

    class Ends(DynamicsWatch):
        def after_task(self, learner, task):  # type: ignore[no-untyped-def]
            ends.append(state_of(learner.model))

    composed = Composition([*read_strategy("naive").parts, watch, Ends()], "watched")
    learn(
        network([8, 16, 6], 0, batch_norm=True), sample_stream(), composed, epochs=3, batch_size=8, learning_rate=0.05
    )
    moves = watch.dynamics.moves
    modules = len(watch.dynamics.roles)
    assert sum(move.kind == "across" for move in moves) == 2 * 3 * modules
    assert sum(move.kind == "within" for move in moves) == 3 * 2 * modules
    last = {move.module: move.distance for move in moves if move.kind == "across" and (move.task, move.epoch) == (2, 2)}
    assert last == {name: pytest.approx(value) for name, value in movement(ends[2], ends[1]).items()}
    assert last["1.running_mean"] > 0
    assert math.isfinite(sensitivity(watch.dynamics.across())["3.weight"])


def test_a_language_model_is_watched_alike() -> None:
    watch = DynamicsWatch("l1")
    composed = Composition([*read_strategy("naive").parts, watch], "watched")
    learn(load("tiny", device="cpu"), sample_texts(), composed, batch_size=3, learning_rate=1e-3)
    across = watch.dynamics.across()
    assert set(across) == set(watch.dynamics.roles)
    assert set(watch.dynamics.by_role(across)) >= {"head", "norm", "hidden"}
    assert min(across.values()) > 0
