"""InTAct's interval arithmetic against random points and corners, each loss by hand, and what it guarantees."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import hooked_modules
from letheon.core.model.models import load
from letheon.retain.composition import read_strategy
from letheon.retain.learn import learn, make_learner
from letheon.retain.learner import Learner
from letheon.retain.models import mlp
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.intact import (
    InTAct,
    affine,
    alignment_loss,
    drift_loss,
    feature_loss,
    inside,
    interval_affine,
    interval_of,
    linear_layers,
    variance_loss,
)
from letheon.testing.strategies import sample_stream, sample_texts

pytestmark = pytest.mark.oracle("intact")
SIZES = [8, 16, 12, 6]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learner_of(text: str = "intact", model: nn.Module | None = None) -> Learner:
    learner = make_learner(
        model or mlp(SIZES),
        sample_stream(),
        read_strategy(text),
        LearnSettings(batch_size=5, optimizer="adam", learning_rate=3e-3),
    )
    learner.strategy.prepare(learner)
    learner.task = 0
    return learner


def test_the_interval_by_hand() -> None:
    """2 h1 - h2 + 1 over h1 in [0, 1], h2 in [-1, 3]: from 0 - 3 + 1 to 2 + 1 + 1."""
    found = interval_affine(
        torch.tensor([[2.0, -1.0]]), torch.tensor([1.0]), torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0])
    )
    assert [one.tolist() for one in found] == [[-2.0], [4.0]]


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_inside_and_are_reached_at_corners(seed: int) -> None:
    weight, bias, centre = drawn(4, 5, seed=seed), drawn(4, seed=seed + 10), drawn(5, seed=seed + 20)
    half = drawn(5, seed=seed + 30).abs()
    lower, upper = centre - half, centre + half
    low, up = interval_affine(weight, bias, lower, upper)
    share = torch.rand(100_000, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = (lower + share * (upper - lower)) @ weight.T + bias
    assert bool((values >= low - 1e-12).all())
    assert bool((values <= up + 1e-12).all())
    corners = torch.stack(
        [torch.where(torch.tensor(bits), upper, lower) for bits in itertools.product([False, True], repeat=5)]
    )
    at_corners = corners @ weight.T + bias
    assert torch.allclose(at_corners.amin(0), low, atol=1e-12)
    assert torch.allclose(at_corners.amax(0), up, atol=1e-12)


def test_intervals_are_the_sorted_values_at_the_quantiles() -> None:
    values = torch.randperm(40, generator=torch.Generator().manual_seed(0)).double()[:, None] * torch.tensor([1.0, -1])
    low, up = interval_of(values, 0.05, 0.95)
    assert low.tolist() == [2.0, -37.0]
    assert up.tolist() == [38.0, -1.0]
    assert [one.item() for one in interval_of(torch.tensor([[3.0]]), 0.0, 1.0)] == [3.0, 3.0]


def test_drift_by_hand_and_how_the_released_form_cancels() -> None:
    low, up = torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0])
    assert float(drift_loss(low, up)) == pytest.approx(2.0)
    assert float(drift_loss(low, up, "square_of_sum")) == 0.0, "one unit falls as far as the other rises"
    assert float(drift_loss(torch.tensor([-2.0]), torch.tensor([3.0]))) == 13.0


def test_a_change_that_no_activation_sees_costs_nothing() -> None:
    """Plain L2 on weights would charge it."""
    change = torch.zeros(3, 4)
    change[:, 1] = 5.0
    lower, upper = torch.tensor([-1.0, 0, 0, 1]), torch.tensor([1.0, 0, 2, 3])
    assert float(drift_loss(*interval_affine(change, None, lower, upper))) == 0.0
    change[0, 2] = 1.0
    assert float(drift_loss(*interval_affine(change, None, lower, upper))) == pytest.approx(2.0**2 / 3)


def test_the_other_losses_by_hand() -> None:
    batch = torch.tensor([[0.0, 5.0], [2.0, 7.0]])
    lower, upper = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 2.0])
    assert float(variance_loss(batch)) == pytest.approx(1.0)
    # unit 1 overlaps; unit 2 lies at 6 instead of 1; half widths are 1
    assert float(alignment_loss(batch, lower, upper)) == pytest.approx(5.0)
    mask = inside(batch, lower, upper)
    assert mask.tolist() == [[False, False], [True, False]]
    assert float(feature_loss(batch, torch.zeros(2, 2), mask)) == pytest.approx(4.0)
    assert float(feature_loss(batch, batch + 1, torch.zeros_like(mask))) == 0.0


def test_gradients_in_float64_and_none_where_every_unit_overlaps() -> None:
    lower, upper = drawn(3).abs() * -1, drawn(3, seed=1).abs()
    batch = (drawn(6, 3, seed=2) + torch.tensor([0.0, 0.0, 9.0])).requires_grad_()
    weight, bias = drawn(2, 3, seed=3).requires_grad_(), drawn(2, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, b: drift_loss(*interval_affine(w, b, lower, upper)), (weight, bias))
    assert torch.autograd.gradcheck(variance_loss, (batch,))
    assert torch.autograd.gradcheck(lambda a: alignment_loss(a, lower, upper), (batch,))
    within = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    loss = alignment_loss(within, lower, upper)
    loss.backward()
    assert loss.item() == 0.0
    assert within.grad is not None
    assert float(within.grad.abs().max()) == 0.0


def test_small_drift_bounds_every_output_in_the_cube_and_none_outside() -> None:
    """max |ΔW h + Δb| <= sqrt(d L_int) for h in the cube: the guarantee of one layer."""
    lower, upper = torch.tensor([0.0, 0.0]), torch.tensor([0.01, 1.0])
    weight = torch.tensor([[5.0, 0.01], [-3.0, -0.02]])
    loss = drift_loss(*interval_affine(weight, None, lower, upper))
    points = lower + torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) * (upper - lower)
    assert float((points @ weight.T).abs().max()) <= float((2 * loss).sqrt())
    assert float((torch.tensor([[1.0, 0.5]]) @ weight.T).abs().max()) > 50 * float((2 * loss).sqrt())


def test_a_head_under_strong_protection_says_the_same_in_the_cube() -> None:
    """After the second task, at points of the first one's cube; the interval of the change is an exact bound."""
    moved = {}
    for strength in (0.0, 10.0):
        learner = learner_of(f"intact:strength={strength},variance=0,features=0,align=false,layers=head")
        strategy, tasks = learner.strategy.find(InTAct), learner.stream.tasks
        learner.train_only({name: weight for name, weight in learner.parameters.items() if name.startswith("4")})
        strategy.after_task(learner, tasks[0])
        (lower,), (upper,), (weight,), (bias,) = strategy.lower, strategy.upper, strategy.weights, strategy.biases
        learner.task = 1
        for _ in range(100):
            learner.one_step(learner.train_rows(tasks[1]))
        head = learner.model[4]  # type: ignore[index]
        low, up = interval_affine((head.weight - weight).detach(), (head.bias - bias).detach(), lower, upper)
        share = torch.rand(1000, len(lower), generator=torch.Generator().manual_seed(0))
        points = lower + share * (upper - lower)
        change = (head(points) - points @ weight.T - bias).abs().detach()
        assert float(change.max()) <= float((len(low) * drift_loss(low, up)).sqrt()) + 1e-5
        moved[strength] = float(change.max())
    assert moved[10.0] < 0.1 * moved[0.0]


def test_the_cubes_only_grow_and_are_those_of_the_final_weights() -> None:
    learner = learner_of()
    strategy = learner.strategy.find(InTAct)
    tasks = learner.stream.tasks
    strategy.after_task(learner, tasks[0])
    hidden = learner.model[:2](learner.train_rows(tasks[0]).inputs).detach()  # type: ignore[index]
    low, up = interval_of(hidden, 0.05, 0.95)
    assert torch.equal(strategy.lower[0], low)
    assert torch.equal(strategy.upper[0], up)
    assert torch.equal(strategy.weights[0], learner.model[2].weight)  # type: ignore[index]
    strategy.after_task(learner, tasks[1])
    assert bool((strategy.lower[0] <= low).all())
    assert bool((strategy.upper[0] >= up).all())
    assert strategy.widths[0] == pytest.approx(float((strategy.upper[0] - strategy.lower[0]).mean()))


def test_the_terms_of_a_step_are_those_of_the_pass() -> None:
    learner = learner_of("intact:strength=2.0,variance=0.5,features=3.0")
    strategy, tasks = learner.strategy.find(InTAct), learner.stream.tasks
    strategy.after_task(learner, tasks[0])
    learner.task = 1
    strategy.before_task(learner, tasks[1])
    with torch.no_grad():
        for weight in learner.weights:
            weight.add_(0.05)
    rows = learner.train_rows(tasks[1]).at(torch.tensor([4, 0, 7]))
    strategy.before_step(learner, rows)
    total = learner.total_loss(rows).item()
    terms = {name: term.item() for name, term in strategy.terms(rows).items()}
    first, second = learner.model[:2](rows.inputs), learner.model[:4](rows.inputs)  # type: ignore[index]
    cubes = list(zip(strategy.lower, strategy.upper, strict=True))
    assert terms["var"] == pytest.approx(0.5 * float(variance_loss(first) + variance_loss(second)), rel=1e-5)
    expected = sum(float(alignment_loss(one, *cube)) for one, cube in zip((first, second), cubes, strict=True))
    assert terms["align"] == pytest.approx(expected, rel=1e-5)
    old = strategy.old[rows.index]
    mask = inside(first, *cubes[0])
    assert terms["feat"] == pytest.approx(3 * float(feature_loss(first, old, mask)), rel=1e-4)
    assert float(strategy.mask_rate) == pytest.approx(float(mask.float().mean()))
    moved = [
        interval_affine(torch.full_like(w, 0.05), torch.full((len(w),), 0.05), *cube)
        for w, cube in zip(strategy.weights, cubes, strict=True)
    ]
    assert terms["int"] == pytest.approx(2 * float(sum(drift_loss(*one) for one in moved)), rel=1e-3)
    assert total == pytest.approx(float(learner.loss(learner.outputs(rows), rows)) + sum(terms.values()), rel=1e-5)
    strategy.after_step(learner, rows)


def test_no_hook_is_left_on_the_model_and_replay_does_not_disturb_it() -> None:
    model = mlp(SIZES)
    result = learn(model, sample_stream(), "replay:capacity=10+intact", batch_size=5, learning_rate=0.05)
    assert not hooked_modules(model)
    assert result.learner.strategy.find(InTAct).old.shape == (20, 16)


def test_other_tasks_classes_can_be_left_out_of_the_new_rows_loss() -> None:
    learner = learner_of("intact:classes=current,strength=0,variance=0,features=0,align=false")
    learner.task = 1
    rows = learner.train_rows(learner.stream.tasks[1])
    outputs = learner.outputs(rows)
    loss = learner.strategy.loss(learner, rows, outputs)
    theirs = nn.functional.cross_entropy(outputs[:, 2:4], rows.targets - 2)
    assert float(loss) == pytest.approx(float(theirs), rel=1e-6)


def test_the_protected_layers_are_those_that_read_hidden_activations() -> None:
    names = {which: list(linear_layers(learner_of(), which)) for which in ("all", "hidden", "head")}
    assert names == {"all": ["2", "4"], "hidden": ["2"], "head": ["4"]}
    convolutional = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(12, 6))
    assert list(linear_layers(learner_of(model=convolutional), "all")) == ["3"]
    with pytest.raises(InputError, match="no hidden linear layer"):
        learner_of("intact:layers=hidden", convolutional)
    with pytest.raises(InputError, match="lower < upper"):
        read_strategy("intact:lower=0.9,upper=0.1")


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_language_models_keep_their_last_mlp_matrices_on_the_cubes(adapter: str) -> None:
    """The extension: intervals of what enters down_proj at real tokens; strong protection means little drift."""
    drift = []
    for strength in (0.0, 1e4):
        result = learn(
            load("tiny", device="cpu"),
            sample_texts(),
            f"intact:strength={strength},align=false",
            batch_size=3,
            learning_rate=5e-3,
            adapter=adapter,
        )
        strategy = result.learner.strategy.find(InTAct)
        assert [len(low) for low in strategy.lower] == [strategy.lower[0].numel()] * 4
        layer = next(iter(strategy.layers.values()))
        assert torch.equal(strategy.weights[0], affine(layer)[0])
        start = (
            torch.zeros(())
            if adapter == "lora"
            else load("tiny", device="cpu").model.model.layers[0].mlp.down_proj.weight
        )
        moved = strategy.weights[0] - start
        drift.append(float(drift_loss(*interval_affine(moved, None, strategy.lower[0], strategy.upper[0]))))
    assert drift[1] < drift[0]
