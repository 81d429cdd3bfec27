"""Parity of digits: the base network, the step at which arms are compared, the verdict, and a tiny run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from letheon.papers import catalogue, rft
from letheon.papers.common import parity
from letheon.papers.common.parity import Matched, Parity, fine_tuned, make_parity, right_parity
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale
from letheon.papers.rft import ARMS, NO_KL, SFT, WITH_KL, judge, strategy_of, summary
from letheon.retain.rows import TaskRows

pytestmark = pytest.mark.oracle("rft")
TRAINING = rft.TRAINING | {"learning_rate": 1e-3}


@pytest.fixture(scope="module")
def world() -> Parity:
    return make_parity(0)


def test_any_class_of_the_right_parity_is_right() -> None:
    rows = TaskRows.of_task(torch.zeros(2, 1), torch.tensor([0, 1]), 0)
    assert right_parity(torch.tensor([[0, 8, 3], [9, 2, 1]]), rows).tolist() == [[1, 1, 0], [1, 0, 1]]


def test_the_base_network_knows_the_old_task_well_and_the_new_one_a_little(world: Parity) -> None:
    assert world.old_accuracy(world.base) > 0.94
    assert 0.8 < world.new_accuracy(world.base) < 0.96
    assert world.divergence(world.base) == 0.0


def test_accuracies_and_divergence_of_a_network_that_says_one_class(world: Parity) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.full((len(x),), 2), 10) * 50.0

    model = Two()
    assert world.old_accuracy(model) == pytest.approx(float((world.old[1] == 2).float().mean()))
    assert world.new_accuracy(model) == pytest.approx(float((world.new[1] == 0).float().mean()))
    expected = -world.base(world.new[0]).log_softmax(-1)[:, 2].mean()
    assert world.divergence(model) == pytest.approx(expected.item(), rel=1e-4)


def test_a_run_is_read_where_the_target_is_first_met_and_ends_there(world: Parity) -> None:
    found = fine_tuned(world, strategy_of(ARMS[SFT]), 0, 0.95, **TRAINING)
    assert found.steps is not None
    assert found.steps % parity.CHECK_EVERY == 0
    assert len(found.path) == found.steps // parity.CHECK_EVERY
    assert all(new < 0.95 for new, _ in found.path[:-1])
    assert found.path[-1][0] >= 0.95
    assert found.path[-1][1] == found.old
    assert found.new is not None
    assert found.new != found.path[-1][0]  # of other rows
    both = {tuple(row.tolist()) for row in world.matching[0]} & {tuple(row.tolist()) for row in world.new[0]}
    assert not both
    never = fine_tuned(world, strategy_of(ARMS[NO_KL]), 0, 1.1, **(TRAINING | {"epochs": 1}))
    assert (never.old, never.steps) == (None, None)
    assert len(never.path) == 9  # 45 steps


def test_the_filter_says_how_many_rows_it_kept(world: Parity) -> None:
    short = TRAINING | {"epochs": 1}
    kept = {
        name: fine_tuned(world, strategy_of(ARMS[name]), 0, 0.97, **short).kept
        for name in (NO_KL, rft.SOLVABLE, rft.LEARNABLE)
    }
    assert kept[NO_KL] == 1.0
    assert 0.9 < kept[rft.SOLVABLE] < 1.0
    assert 0.05 < kept[rft.LEARNABLE] < kept[rft.SOLVABLE]


@pytest.mark.usefixtures("noise_over_seeds")
def test_the_claim_is_of_both_kinds_of_grpo() -> None:
    def runs(no_kl: float) -> dict[str, list[Matched]]:
        olds = dict.fromkeys(ARMS, 0.5) | {SFT: 0.2, NO_KL: no_kl, WITH_KL: 0.9}
        return {
            name: [Matched(1.0, 0.9, old + 0.01 * i, 0.97, 1.0, 5) for i in range(10)] for name, old in olds.items()
        }

    better, worse = Findings(), Findings()
    judge(runs(0.6), better)
    assert set(better.parts.values()) == {"holds"}
    judge(runs(0.1), worse)
    assert list(worse.parts.values()) == ["fails", "holds"]
    assert summary(runs(0.6)[NO_KL])["old accuracy"] == pytest.approx(0.645)


@pytest.mark.slow
def test_a_tiny_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rft, "TARGET", 0.9)
    monkeypatch.setattr(rft, "EACH", 1)
    monkeypatch.setattr(rft, "TRAINING", rft.TRAINING | {"epochs": 2})
    monkeypatch.setattr(rft, "RATES", (1e-3,))
    monkeypatch.setattr(rft, "TUNING_SEEDS", (100,))
    outcome = catalogue.paper("rft").reproduce(Scale(seeds=(0, 1)))
    assert set(outcome.measured) >= set(ARMS)
    assert set(outcome.primary) == set(rft.PRIMARY)
    assert set(outcome.figures) == {"old accuracy", "paths"}
    assert set(outcome.measured["chosen on seeds 100"]) == set(ARMS)


def test_each_arm_has_the_rate_that_keeps_most_on_seeds_that_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    peaks = {SFT: 3e-5}

    def fake(world: int, name: str, rate: float, seed: int) -> Matched:
        seen.add(seed)
        lost = name == WITH_KL and rate > 1e-3 and seed == 101
        return Matched(1.0, 0.9, None if lost else 1 - abs(math.log10(rate / peaks.get(name, 3e-3))) / 10)

    monkeypatch.setattr(rft, "make_parity", lambda seed: seed)
    monkeypatch.setattr(rft, "run", fake)
    found = Findings()
    rates = rft.tuned(found)
    assert rates[SFT] == 3.3e-5, "the search goes on beyond the end of the grid"
    assert rates[WITH_KL] == 1e-3, "a rate at which one run never reaches the target is not taken"
    assert {rates[name] for name in (NO_KL, rft.RLOO, rft.SOLVABLE, rft.LEARNABLE)} == {max(rft.RATES)}
    assert list(rates) == list(ARMS)
    assert seen == set(rft.TUNING_SEEDS)
    assert found.measured["scores of the search on seeds 100, 101, 102"][WITH_KL]["0.003"] is None
