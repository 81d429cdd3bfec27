"""Refresh learning: divergences by hand, the unlearning step in closed form, and what it must leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.papers.refresh import difference, special_cases
from letheon.retain.classes import ClassLearner
from letheon.retain.composition import read_strategy
from letheon.retain.learn import learn, make_learner
from letheon.retain.learned import Learned
from letheon.retain.models import mlp
from letheon.retain.row_gradients import flat
from letheon.retain.rows import TaskRows
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.bregman import bregman, negative_entropy, quadratic, squared_norm
from letheon.retain.strategies.refresh import (
    Refresh,
    RefreshRelease,
    ReleaseSettings,
    Settings,
    Unlearning,
    ascent,
    langevin_noise,
    relative_ascent,
)
from letheon.testing.strategies import sample_stream

FORMS = [pytest.param(name, marks=pytest.mark.oracle(name)) for name in ("refresh", "refresh_release")]


def learner_of(text: str, model: nn.Module | None = None, **options: object) -> tuple[ClassLearner, TaskRows]:
    """A learner before its first step, and the rows of that step."""
    given = LearnSettings(**{"learning_rate": 0.05, **options})  # type: ignore[arg-type]
    learner = make_learner(model or mlp([8, 16, 16, 6]), sample_stream(), read_strategy(text), given)
    learner.strategy.prepare(learner)
    learner.task = 0
    assert isinstance(learner, ClassLearner)
    return learner, learner.train_rows(learner.stream.tasks[0]).part(0, 10)


def run(text: str, **options: object) -> Learned:
    given = {"epochs": 2, "batch_size": 5, "learning_rate": 0.05} | options
    return learn(mlp([8, 16, 16, 6]), sample_stream(), text, **given)  # type: ignore[arg-type]


def loss_of(learner: ClassLearner, rows: TaskRows) -> float:
    return float(learner.loss(learner.outputs(rows), rows).detach())


def unlearned(learner: ClassLearner, rows: TaskRows) -> Tensor:
    """How the weights move when the rows are unlearned."""
    before = flat([weight.detach().clone() for weight in learner.weights])
    learner.strategy.find(Unlearning).before_step(learner, rows)
    return flat([weight.detach() for weight in learner.weights]) - before


# The objective


@pytest.mark.oracle("refresh")
def test_divergences_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    kl = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(bregman(negative_entropy, p, q)) == pytest.approx(kl)
    assert float(bregman(negative_entropy, torch.tensor([1.0, 0.0]), q)) == pytest.approx(math.log(4))
    assert float(bregman(squared_norm, torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0]))) == pytest.approx(5.0)
    fisher = torch.tensor([2.0, 4.0])
    assert float(bregman(quadratic(fisher), torch.tensor([1.0, 1.0]), torch.zeros(2))) == pytest.approx(3.0)
    assert float(bregman(negative_entropy, q, q)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.oracle("refresh")
@pytest.mark.parametrize("name", special_cases())
@pytest.mark.parametrize("seed", range(3))
def test_special_cases_equal_their_formulas(name: str, seed: int) -> None:
    """Loss and gradient, in float64."""
    assert difference(special_cases()[name], seed) < 1e-12


def slopes(loss: Tensor, at: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, at)
    return found


def test_the_terms_of_replay_der_and_lwf_are_these_divergences() -> None:
    """The strategies' own losses, by their gradients in the outputs."""
    generator = torch.Generator().manual_seed(1)
    learner, rows = learner_of("naive")
    now = torch.randn(10, 6, generator=generator, requires_grad=True)
    old = torch.randn(10, 6, generator=generator)
    kept, labels = rows.part(0, 10), nn.functional.one_hot(rows.targets, 6).float()
    kept.kept["logits"] = old

    replay, der, lwf = (read_strategy(text).parts[0] for text in ("replay", "der:alpha=0.3,beta=0", "lwf:strength=2"))
    from_label = bregman(negative_entropy, labels, now.softmax(1)) / 10
    assert torch.allclose(slopes(replay.replay_loss(learner, rows, now), now), slopes(from_label, now), atol=1e-6)

    der.first = 10
    distance = 0.3 * bregman(squared_norm, now, old) / now.numel()
    assert torch.allclose(slopes(der.replay_loss(learner, kept, now), now), slopes(distance, now), atol=1e-6)

    learner.task, lwf.old = 1, old
    rows.index = torch.arange(10)
    seen = list(learner.stream.tasks[0].classes)
    soft = [(one[:, seen] / 2.0).softmax(1) for one in (old, now)]
    distilled = 2 * bregman(negative_entropy, *soft) / 10
    extra = lwf.extra(learner, rows, now)
    assert extra is not None
    assert torch.allclose(slopes(extra, now), slopes(distilled, now), atol=1e-6)


def test_the_gradient_that_ewc_adds_is_that_of_its_divergence() -> None:
    learner, rows = learner_of("ewc:strength=3")
    (ewc,) = learner.strategy.parts
    ewc.importance = [weight.detach().square() + 0.1 for weight in learner.weights]
    ewc.anchor = [weight.detach() - 0.2 for weight in learner.weights]
    learner.set_gradients([torch.zeros_like(weight) for weight in learner.weights])
    ewc.after_backward(learner, rows)
    for weight, fisher, anchor, added in zip(
        learner.weights, ewc.importance, ewc.anchor, learner.gradients(), strict=True
    ):
        at = weight.detach().clone().requires_grad_()
        expected = slopes(3 * bregman(quadratic(fisher), at, anchor), at)
        assert torch.allclose(added, expected, atol=1e-5)


# The update


@pytest.mark.oracle("refresh")
def test_the_ascent_and_its_noise_by_hand() -> None:
    gradient, fisher = torch.tensor([1.0, -2.0]), torch.tensor([1.0, 3.0])
    assert ascent(gradient, fisher, 0.2, 1.0).tolist() == pytest.approx([0.1, -0.1])
    assert langevin_noise(torch.ones(2), fisher, 0.2, 1.0).square().tolist() == pytest.approx([0.2, 0.1])


@pytest.mark.oracle("refresh_release")
def test_the_codes_step_is_a_share_of_the_tensors_norm() -> None:
    """‖(3, 4)‖ = 5 along (0, 1); the gradient's size and any rate cancel; a tensor of zeros has noise alone."""
    weight, gradient, none = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1e-3]), torch.zeros(2)
    assert relative_ascent(weight, gradient, 0.0, none, 0.01).tolist() == pytest.approx([0.0, 0.05])
    assert relative_ascent(weight, 1e6 * gradient, 1000.0, none, 0.01).tolist() == pytest.approx([0.0, 0.025])
    assert relative_ascent(none, gradient, 0.0, torch.ones(2), 0.01).tolist() == pytest.approx([1e-5, 1e-5])


@pytest.mark.oracle("refresh")
def test_relearning_descends_the_loss_and_its_gradients_norm() -> None:
    """∇L(θ + γF⁻¹∇L) = ∇(L + γ/2 ∇L'F⁻¹∇L) + O(γ²): halving γ quarters what is left."""
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=draw, dtype=torch.float64)
    fisher = torch.rand(5, generator=draw, dtype=torch.float64)
    theta = torch.randn(5, generator=draw, dtype=torch.float64).requires_grad_()

    def loss(weights: Tensor) -> Tensor:
        return (root @ weights).sin().sum() + weights.pow(4).sum() / 4

    def left(rate: float) -> float:
        (gradient,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
        penalised = loss(theta) + rate / 2 * (gradient.square() / (fisher + 1)).sum()
        (theirs,) = torch.autograd.grad(penalised, theta)
        moved = (theta + ascent(gradient, fisher, rate, 1.0)).detach().requires_grad_()
        (mine,) = torch.autograd.grad(loss(moved), moved)
        return float((mine - theirs).norm())

    assert left(1e-3) / left(5e-4) == pytest.approx(4, rel=0.05)


# In the loop


@pytest.mark.parametrize("name", FORMS)
def test_unlearning_raises_the_loss_of_the_batch(name: str) -> None:
    learner, rows = learner_of(name)
    before = loss_of(learner, rows)
    unlearned(learner, rows)
    assert loss_of(learner, rows) > before


@pytest.mark.oracle("refresh")
def test_without_noise_the_move_is_the_scaled_gradient() -> None:
    learner, rows = learner_of("refresh:rate=0.1,damping=0.5")
    fisher = [torch.rand_like(weight) for weight in learner.weights]
    learner.strategy.find(Refresh).fisher = fisher
    gradient = learner.gradient_of(learner.loss(learner.outputs(rows), rows))
    expected = flat([0.1 * g / (f + 0.5) for g, f in zip(gradient, fisher, strict=True)])
    assert torch.allclose(unlearned(learner, rows), expected, atol=1e-7)


@pytest.mark.oracle("refresh")
def test_the_paper_unlearns_the_whole_loss_and_the_code_the_batch_alone() -> None:
    moves = {}
    for form in ("refresh", "refresh_release:size=1e-2"):
        for old in (False, True):
            learner, rows = learner_of(f"replay:capacity=10+{form}")
            if old:
                learner.strategy.parts[0].memory.add(learner.train_rows(learner.stream.tasks[1]).part(0, 10))
            learner.generator.manual_seed(0)
            moves[form, old] = unlearned(learner, rows)
    assert not torch.allclose(moves["refresh", False], moves["refresh", True], atol=1e-5)
    assert torch.equal(*(moves["refresh_release:size=1e-2", old] for old in (False, True)))


@pytest.mark.oracle("refresh")
def test_a_step_is_plain_descent_from_where_unlearning_ended() -> None:
    learner, rows = learner_of("refresh:rate=0.1,steps=2")
    other, _ = learner_of("naive")
    for sign, rate in ((1, 0.1), (1, 0.1), (-1, 0.05)):
        gradient = other.gradient_of(other.loss(other.outputs(rows), rows))
        with torch.no_grad():
            torch._foreach_add_(other.weights, gradient, alpha=sign * rate)
    learner.one_step(rows)
    assert torch.allclose(flat([*learner.weights]), flat([*other.weights]), atol=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_the_move_stays_where_nothing_is_relearned(name: str) -> None:
    """Sharpness-aware minimisation would have gone back."""
    learner, rows = learner_of(name, learning_rate=1e-30)
    before = flat([weight.detach().clone() for weight in learner.weights])
    learner.one_step(rows)
    assert not torch.equal(flat([*learner.weights]), before)


@pytest.mark.oracle("refresh")
def test_every_second_iteration() -> None:
    moved = []

    class Counted(Refresh):
        def unlearn(self, learner: object, rows: object) -> None:
            moved.append(learner.step)  # type: ignore[attr-defined]

    learn(mlp([8, 16, 16, 6]), sample_stream(), Counted(Settings()), batch_size=5, learning_rate=0.05)
    assert moved == list(range(0, 12, 2))


@pytest.mark.parametrize("name", FORMS)
def test_momentum_and_running_statistics_see_the_batch_once(name: str) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 6)).train()
    learner, rows = learner_of(name, model, momentum=0.9)
    unlearned(learner, rows)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert int(norm.num_batches_tracked) == 0  # type: ignore[arg-type]
    assert not learner.optimizer.velocity  # type: ignore[union-attr]
    assert all(weight.grad is None for weight in learner.weights)
    learner.one_step(rows)
    assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]


@pytest.mark.oracle("refresh_release")
def test_the_fisher_information_of_earlier_tasks_decays() -> None:
    """Of weights that hardly move it is a sum that both runs share: F₃ + ½ (F₂ + ½ F₁) against F₃ alone."""

    def found(decay: float) -> list[Tensor]:
        tasks: list[Tensor] = []

        class Seen(RefreshRelease):
            def after_task(self, learner: object, task: object) -> None:
                super().after_task(learner, task)  # type: ignore[arg-type]
                tasks.append(flat(self.fisher))  # type: ignore[arg-type]

        given = Seen(ReleaseSettings(size=1e-30, decay=decay, samples=0))
        learn(mlp([8, 16, 16, 6]), sample_stream(), given, batch_size=5, learning_rate=1e-30)
        return tasks

    first, second, third = found(0.0)
    assert torch.allclose(found(0.5)[-1], third + 0.5 * (second + 0.5 * first), rtol=1e-5)


@pytest.mark.parametrize(
    "text", ["der:capacity=9+refresh", "replay:capacity=9+ewc+refresh_release", "gem:capacity=9+refresh"]
)
def test_it_composes(text: str) -> None:
    result = run(text)
    assert all(math.isfinite(loss) for loss in result.curve.loss[-1])
    assert result.learner.strategy.find(Unlearning).fisher is not None


@pytest.mark.oracle("refresh")
@pytest.mark.parametrize("options", [{"rate": 0.0}, {"steps": 0}, {"every": 0}, {"noise": -1.0}, {"damping": 0.0}])
def test_settings_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Settings(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        ReleaseSettings(decay=2.0)
