"""The objective of two Bregman divergences: each preset makes the step of the strategy whose name it has."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.row_gradients import flat
from letheon.retain.strategies.bregman import Bregman, Settings, divergence
from letheon.retain.stream import Scenario
from letheon.testing.strategies import sample_stream

pytestmark = pytest.mark.oracle("bregman")


def weights_after(text: str, seed: int = 0, scenario: Scenario = "class") -> Tensor:
    torch.manual_seed(seed)
    given = {"epochs": 2, "batch_size": 5, "learning_rate": 0.05, "optimizer": "sgd"}
    result = learn(mlp([8, 16, 16, 6]), sample_stream(scenario), text, **given)  # type: ignore[arg-type]
    return flat([weight.detach() for weight in result.learner.weights])


@pytest.mark.parametrize(
    ("preset", "strategy"),
    [
        ("bregman:preset=er,capacity=12", "replay:capacity=12"),
        ("bregman:preset=er,capacity=12,alpha=0.3,fill=task", "replay:capacity=12,weight=0.3,fill=task"),
        ("bregman:preset=der,capacity=12,alpha=0.7", "der:capacity=12,alpha=0.7,beta=0"),
        ("bregman:preset=der,capacity=12,fill=task", "der:capacity=12,alpha=1,beta=0,fill=task"),
        ("bregman:preset=lwf,alpha=2", "lwf:strength=2,temperature=1"),
        ("bregman:preset=ewc,beta=30", "ewc:strength=30"),
        ("bregman:target=none", "naive"),
    ],
)
def test_a_preset_trains_the_weights_of_the_strategy_of_its_name(preset: str, strategy: str) -> None:
    naive, ours, theirs = (weights_after(text) for text in ("naive", preset, strategy))
    assert float((ours - theirs).abs().max()) < 1e-5
    if strategy != "naive":
        assert float((theirs - naive).abs().max()) > 1e-3, "the strategy does something here"


@pytest.mark.parametrize(
    ("preset", "strategy"),
    [
        ("bregman:preset=er,capacity=12", "replay:capacity=12"),
        ("bregman:preset=lwf,alpha=2", "lwf:strength=2,temperature=1"),
    ],
)
def test_where_the_task_is_known_outputs_are_those_of_its_classes(preset: str, strategy: str) -> None:
    ours, theirs = (weights_after(text, scenario="task") for text in (preset, strategy))
    assert float((ours - theirs).abs().max()) < 1e-5


def test_cpr_descends_the_negative_entropy_of_the_new_rows() -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    bonus = divergence(logits, torch.empty(0), "uniform", "entropy")
    direct = math.log(5) + (logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    (ours,), (theirs,) = (torch.autograd.grad(loss, logits) for loss in (bonus, direct))
    assert float(bonus.detach()) == pytest.approx(float(direct.detach()), abs=1e-6)
    assert float((ours - theirs).abs().max()) < 1e-7
    assert float((weights_after("bregman:preset=cpr,alpha=0.5") - weights_after("naive")).abs().max()) > 1e-3


def test_targets_and_functions_by_hand() -> None:
    logits, old = (torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    now, z = logits.softmax(1), old.softmax(1)
    label = torch.tensor([0, 2, 1, 1])
    onehot = functional.one_hot(label, 3).float()
    expected = {
        ("label", "entropy", label): functional.cross_entropy(logits, label),
        ("label", "square", label): (now - onehot).square().sum(1).mean(),
        ("stored", "square", old): (logits - old).square().mean(),
        ("stored", "entropy", old): functional.kl_div(now.log(), z, reduction="batchmean"),
        ("old", "entropy", old): functional.kl_div(now.log(), z, reduction="batchmean"),
        ("old", "square", old): (now - z).square().sum(1).mean(),
        ("uniform", "square", old): (now - 1 / 3).square().sum(1).mean(),
    }
    for (target, phi, given), value in expected.items():
        assert float(divergence(logits, given, target, phi)) == pytest.approx(float(value), abs=1e-6)  # type: ignore[arg-type]


def test_a_sure_and_wrong_model_has_a_finite_loss_and_gradient() -> None:
    far = divergence(torch.tensor([[0.0, 900.0]]), torch.tensor([0]), "label", "entropy")
    assert 700 < float(far) < 900
    logits = torch.tensor([[0.0, 300.0]], requires_grad=True)
    loss = divergence(logits, torch.tensor([0]), "label", "entropy")
    assert float(loss.detach()) == pytest.approx(300)
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope.tolist() == [[pytest.approx(-1), pytest.approx(1)]]


def test_a_preset_names_its_target_and_functions_and_an_unknown_one_is_refused() -> None:
    settings = Settings(preset="der", target="uniform")
    assert (settings.target, settings.phi, settings.psi) == ("stored", "square", "none")
    both = Bregman(Settings(target="uniform", psi="quadratic"))
    assert (both.settings.target, both.settings.psi) == ("uniform", "quadratic")
    with pytest.raises(InputError, match="found 'der\\+\\+'"):
        Settings(preset="der++")  # type: ignore[arg-type]
