"""Every baseline against a closed form, hand-worked numbers or a second formulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.retain.classes import ClassLearner
from letheon.retain.composition import read_strategy
from letheon.retain.descent import Descent
from letheon.retain.learn import learn, make_learner
from letheon.retain.learned import Learned
from letheon.retain.models import mlp
from letheon.retain.penalty import add_penalty_gradient
from letheon.retain.row_gradients import diagonal_fisher, flat, group_gradients
from letheon.retain.rows import joined
from letheon.retain.settings import LearnSettings
from letheon.retain.strategies.agem import agem_projection
from letheon.retain.strategies.der import der_loss, derpp_loss
from letheon.retain.strategies.ewc import EWC, sum_of_quadratics
from letheon.retain.strategies.gem import GEM, gem_projection
from letheon.retain.strategies.lwf import distillation
from letheon.retain.strategies.progressive import Progressive
from letheon.retain.strategies.replay import Replay
from letheon.retain.strategies.si import SI, importance_of, path_step
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Stream
from letheon.testing.strategies import sample_stream

SIZES = [8, 16, 16, 6]


def learner_of(stream: Stream, text: str = "naive", model: nn.Module | None = None, **options: object) -> ClassLearner:
    made = make_learner(model or mlp(SIZES), stream, read_strategy(text), LearnSettings(**options))  # type: ignore[arg-type]
    made.strategy.prepare(made)
    made.task = 0
    assert isinstance(made, ClassLearner)
    return made


def run(text: str | Strategy, scenario: str = "class", **options: object) -> Learned:
    given = {"epochs": 3, "batch_size": 5, "learning_rate": 0.05} | options
    return learn(mlp(SIZES), sample_stream(scenario), text, **given)  # type: ignore[arg-type]


# The loop itself


@pytest.mark.oracle("naive")
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.01)])
def test_naive_learning_is_a_plain_loop_of_torch(momentum: float, decay: float) -> None:
    """The same rows in the same order through torch.optim.SGD give the same weights, to the bit."""
    stream, seed = sample_stream(), 0
    options = LearnSettings(
        epochs=2, batch_size=8, learning_rate=0.05, momentum=momentum, weight_decay=decay, seed=seed
    )
    ours = learn(mlp(SIZES), stream, settings=options).model
    plain = mlp(SIZES)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=momentum, weight_decay=decay, foreach=True)
    helper = learner_of(stream, seed=seed)
    for helper.task, task in enumerate(stream):
        for epoch in range(2):
            order = Strategy.order(helper.strategy.parts[0], helper, task.train, epoch)  # type: ignore[arg-type]
            for places in order.split(8):
                optimizer.zero_grad()
                inputs, targets = task.train.inputs[places], task.train.targets[places]  # type: ignore[union-attr]
                functional.cross_entropy(plain(inputs), targets).backward()
                optimizer.step()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_parameter_without_a_gradient_stays() -> None:
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    descent = Descent([one, two], 0.5, momentum=0.9)
    one.grad = torch.ones(2)
    descent.step()
    descent.step()
    assert one.tolist() == pytest.approx([1 - 0.5 - 0.5 * 1.9] * 2)
    assert two.tolist() == [1.0, 1.0]


@pytest.mark.oracle("joint")
def test_joint_ends_where_training_on_everything_from_the_start_ends() -> None:
    """The last task of joint training is a run of its own on all rows; its accuracy is that of one big task."""
    stream = sample_stream()
    result = run("joint", epochs=20)
    assert result.metrics["average accuracy"] > 0.9  # type: ignore[operator]
    learner = learner_of(stream, "joint")
    learner.task = 2
    rows = learner.strategy.rows(learner, stream.tasks[2])
    assert len(rows) == 60
    assert rows.task.unique().tolist() == [0, 1, 2]
    assert result.steps == 20 * (4 + 8 + 12)


# Replay


@pytest.mark.oracle("replay")
def test_replay_adds_the_mean_loss_of_the_old_rows() -> None:
    learner = learner_of(sample_stream(), "replay:capacity=10,weight=0.5")
    old, new = (learner.train_rows(task).part(0, 5) for task in learner.stream.tasks[:2])
    learner.strategy.find(Replay).memory.add(old)
    mine = learner.total_loss(new)
    kept = learner.strategy.find(Replay).memory.rows()
    model = learner.model
    losses = [functional.cross_entropy(model(rows.inputs), rows.targets) for rows in (new, kept)]
    assert float(mine) == pytest.approx(float(losses[0] + 0.5 * losses[1]), rel=1e-6)


def test_rows_enter_the_memory_once() -> None:
    result = run("replay:capacity=30", epochs=4)
    assert result.learner.strategy.find(Replay).memory.seen == 60
    assert run("replay:capacity=30,fill=task").learner.strategy.find(Replay).memory.seen == 60


@pytest.mark.oracle("der")
def test_der_losses_by_hand() -> None:
    logits, stored = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    assert float(der_loss(logits, stored)) == pytest.approx((1 + 4 + 1 + 1) / 4)
    others, labels = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]]), torch.tensor([0, 0])
    second = (math.log(2) + math.log(4 / 3)) / 2
    mine = derpp_loss(logits, stored, functional.cross_entropy(others, labels), alpha=0.2, beta=0.5)
    assert float(derpp_loss(logits, stored, None, alpha=0.2, beta=0.5)) == pytest.approx(0.2 * 1.75)
    assert float(mine) == pytest.approx(0.2 * 1.75 + 0.5 * second)


@pytest.mark.oracle("der")
def test_der_in_the_loop_is_its_loss_on_both_draws() -> None:
    learner = learner_of(sample_stream(), "der:capacity=8,batch=3,alpha=0.3,beta=0.7")
    der = learner.strategy.parts[0]
    old, new = (learner.train_rows(task).part(0, 6) for task in learner.stream.tasks[:2])
    der.memory.add(old, logits=torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    state = learner.generator.get_state()
    mine = learner.total_loss(new)
    learner.generator.set_state(state)
    first, second = der.draw(new), der.draw(new)
    assert set(first.index.tolist()) != set(second.index.tolist()), "two draws of three rows out of six"
    model = learner.model
    theirs = functional.cross_entropy(model(new.inputs), new.targets)
    theirs = theirs + 0.3 * (model(first.inputs) - first.kept["logits"]).square().mean()
    theirs = theirs + 0.7 * functional.cross_entropy(model(second.inputs), second.targets)
    assert float(mine) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.oracle("gdumb")
def test_gdumb_learns_its_memory_alone_from_the_first_weights() -> None:
    result = run("gdumb:capacity=12,epochs=5")
    memory = result.learner.strategy.parts[0].memory
    assert torch.bincount(memory.rows().targets).tolist() == [2] * 6
    assert result.steps == 3 * 5 * 3, "twelve rows in batches of five, five epochs, after each task"
    alone = learner_of(sample_stream(), learning_rate=0.05)
    alone.task, rows = 2, memory.rows()
    for epoch in range(5):
        for places in alone.strategy.order(alone, rows, epoch).split(5):
            alone.one_step(rows.at(places))
    assert torch.equal(flat(result.learner.weights), flat(alone.weights)), "it starts anew before each task"


# Regularisation


@pytest.mark.oracle("ewc")
def test_the_sum_of_quadratics_is_the_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [torch.rand(5, generator=generator, dtype=torch.float64) for _ in range(5)]
    a, c, f, w, point = draws
    f[0] = a[0] = 0.0
    (total,), (centre,) = sum_of_quadratics([a], [c], [f], [w])
    mine = torch.zeros_like(point)
    add_penalty_gradient([mine], [point], [total], [centre], 1.0)
    assert torch.allclose(mine, a * (point - c) + f * (point - w), atol=1e-12)
    assert centre[0] == w[0]


@pytest.mark.oracle("ewc")
def test_ewc_ends_in_the_exact_minimiser_of_a_quadratic() -> None:
    """min ½(θ-a)'H(θ-a) + λ/2 Σ F (θ-c)² is (H + λF)⁻¹(Ha + λFc); descent with the penalty's gradient finds it."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    hessian, a = root @ root.T + torch.eye(4), torch.randn(4, generator=generator, dtype=torch.float64)
    fisher = torch.rand(4, generator=generator, dtype=torch.float64)
    centre, strength = torch.randn(4, generator=generator, dtype=torch.float64), 3.0
    exact = torch.linalg.solve(hessian + strength * torch.diag(fisher), hessian @ a + strength * fisher * centre)
    point = torch.zeros(4, dtype=torch.float64)
    for _ in range(5000):
        gradient = hessian @ (point - a)
        add_penalty_gradient([gradient], [point], [fisher], [centre], strength)
        point = point - 0.02 * gradient
    assert torch.allclose(point, exact, atol=1e-8)


@pytest.mark.oracle("ewc")
@pytest.mark.parametrize("scenario", ["class", "task"])
@pytest.mark.parametrize("kind", ["true", "empirical"])
def test_the_fisher_diagonal_is_that_of_rows_taken_one_by_one(kind: str, scenario: str) -> None:
    """From outer products of whole batches, against autograd on each row; and by vmap for other modules."""
    stream = sample_stream(scenario)  # type: ignore[arg-type]
    for model in (mlp(SIZES), nn.Sequential(mlp(SIZES))):
        learner = learner_of(stream, model=model)
        rows = learner.train_rows(stream.tasks[1]).part(0, 7)
        mine = diagonal_fisher(learner, rows, kind)  # type: ignore[arg-type]
        theirs = [torch.zeros_like(weight) for weight in learner.weights]
        for i in range(len(rows)):
            row = rows.part(i, i + 1)
            logp = learner.masked(model(row.inputs), row.task).log_softmax(1)[0]
            own = int(row.targets)
            for label in range(6):
                share = float(logp[label].exp()) if kind == "true" else float(label == own)
                if share > 0:
                    gradient = torch.autograd.grad(logp[label], learner.weights, retain_graph=True)
                    for total, one in zip(theirs, gradient, strict=True):
                        total += share * one.square() / len(rows)
        for first, second in zip(mine, theirs, strict=True):
            assert torch.allclose(first, second, rtol=1e-4, atol=1e-8)


@pytest.mark.oracle("ewc")
def test_the_fisher_of_a_logistic_model_has_its_closed_form() -> None:
    """Two classes, one weight each: F = E[p(1-p) x²] for either weight."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    x = torch.tensor([[0.5], [-1.0], [2.0]])
    from letheon.retain.stream import task_of

    y = torch.tensor([0, 1, 1])
    stream = Stream("logistic", (task_of("one", 0, (x, y), (x, y)),))
    learner = learner_of(stream, model=model)
    p = model(x).softmax(1)[:, 0].detach()
    (found,) = diagonal_fisher(learner, learner.train_rows(stream.tasks[0]), "true")
    exact = float((p * (1 - p) * x[:, 0].square()).mean())
    assert found.flatten().tolist() == pytest.approx([exact, exact], rel=1e-5)


@pytest.mark.oracle("ewc")
def test_the_penalty_in_the_loop_is_the_gradient_of_its_formula() -> None:
    learner = learner_of(sample_stream(), "ewc:strength=7.0")
    ewc = learner.strategy.find(EWC)
    ewc.importance = [torch.rand_like(weight) for weight in learner.weights]
    ewc.anchor = [torch.randn_like(weight) for weight in learner.weights]
    for weight in learner.weights:
        weight.grad = torch.zeros_like(weight)
    ewc.after_backward(learner, learner.train_rows(learner.stream.tasks[0]))
    terms = zip(ewc.importance, learner.weights, ewc.anchor, strict=True)
    penalty = sum((f * (w - c).square()).sum() for f, w, c in terms) * 7.0 / 2
    for weight, gradient in zip(learner.weights, torch.autograd.grad(penalty, learner.weights), strict=True):
        assert torch.allclose(weight.grad, gradient, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.oracle("ewc")
def test_a_very_strong_ewc_stays_where_it_was_and_its_online_form_has_one_anchor() -> None:
    free, held = (run(f"ewc:strength={s}", scenario="task") for s in (1e-6, 20.0))
    assert held.metrics["forgetting"] <= free.metrics["forgetting"]  # type: ignore[operator]
    online = run("ewc:online=true").learner
    assert torch.equal(flat(online.strategy.find(EWC).anchor), flat([w.detach() for w in online.weights]))


@pytest.mark.oracle("ewc")
def test_online_ewc_lets_the_old_importance_decay_and_takes_the_new_as_it_is() -> None:
    """γ F_old + F_new (Schwarz et al., Sec. 3.2)."""
    learner = learner_of(sample_stream(), "ewc:online=true,decay=0.25,samples=0")
    ewc, task = learner.strategy.find(EWC), learner.stream.tasks[0]
    ewc.importance, ewc.anchor = ([torch.full_like(w, value) for w in learner.weights] for value in (2.0, 9.0))
    ewc.after_task(learner, task)
    new = diagonal_fisher(learner, learner.train_rows(task), "true")
    assert torch.allclose(flat(ewc.importance), 0.25 * 2.0 + flat(new), rtol=1e-5)
    assert torch.equal(flat(ewc.anchor), flat([w.detach() for w in learner.weights]))


@pytest.mark.oracle("si")
def test_the_path_integral_by_hand() -> None:
    """Two steps of one weight: -(2)(-0.2) - (1)(-0.1) = 0.5; over the way 0.3: 0.5 / (0.09 + 0.01)."""
    path = [torch.zeros(1)]
    path_step(path, [torch.tensor([2.0])], [torch.tensor([-0.2])])
    path_step(path, [torch.tensor([1.0])], [torch.tensor([-0.1])])
    assert float(path[0]) == pytest.approx(0.5)
    assert float(importance_of(path[0], torch.tensor([-0.3]), 0.01)) == pytest.approx(5.0)
    assert float(importance_of(torch.tensor([-1.0]), torch.tensor([0.3]), 0.01)) == 0.0


@pytest.mark.oracle("si")
def test_the_path_integral_adds_up_to_the_fall_of_the_loss() -> None:
    """With small full-batch steps Σ ω is the loss lost (Zenke et al., Eq. 3), to 2 per cent."""
    stream = sample_stream()
    rows = stream.tasks[0].train
    size = len(rows)
    learner = learner_of(stream, "si", learning_rate=0.005, batch_size=size)
    before = float(learner.loss(learner.outputs(rows), rows))  # type: ignore[arg-type]
    for _ in range(200):
        learner.one_step(rows)  # type: ignore[arg-type]
    after = float(learner.loss(learner.outputs(rows), rows))  # type: ignore[arg-type]
    total = float(flat(learner.strategy.find(SI).path).sum())
    assert total == pytest.approx(before - after, rel=0.02)


@pytest.mark.oracle("lwf")
def test_distillation_by_hand_and_by_the_papers_powers() -> None:
    """y' = y^(1/T) / Σ y^(1/T) of probabilities is the softmax of logits over T."""
    logits, old = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([[2.0, 0.0, 1.0, -1.0]])
    old = old.expand(3, 4)
    powers = [value.softmax(1) ** 0.5 for value in (old, logits)]
    target, now = (power / power.sum(1, keepdim=True) for power in powers)
    assert float(distillation(logits, old, 2.0)) == pytest.approx(float(-(target * now.log()).sum(1).mean()), rel=1e-6)
    even = torch.zeros(1, 2)
    assert float(distillation(even, even, 2.0)) == pytest.approx(math.log(2))


@pytest.mark.oracle("lwf")
def test_lwf_distils_what_the_model_said_before_the_task() -> None:
    for scenario, groups in (("class", [[0, 1, 2, 3]]), ("task", [[0, 1], [2, 3]])):
        learner = learner_of(sample_stream(scenario), "lwf:strength=2.0")  # type: ignore[arg-type]
        learner.task = 2
        task = learner.stream.tasks[2]
        before = learner.model(learner.train_rows(task).inputs).detach()
        learner.strategy.before_task[0](learner, task)
        with torch.no_grad():
            for weight in learner.weights:
                weight.add_(0.1)
        rows = learner.train_rows(task).at(torch.tensor([3, 1, 8]))
        logits = learner.model(rows.inputs)
        extra = sum(distillation(logits[:, c], before[[3, 1, 8]][:, c], 2.0) for c in groups)
        expected = learner.loss(logits, rows) + 2.0 * extra
        assert float(learner.total_loss(rows)) == pytest.approx(float(expected), rel=1e-6)


# Constraints


@pytest.mark.oracle("gem")
@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_the_gem_projection_is_that_of_a_general_solver(margin: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    memories = torch.randn(3, 10, generator=generator, dtype=torch.float64)
    gradient = torch.randn(10, generator=generator, dtype=torch.float64)
    gradient -= memories.sum(0)  # some product is negative
    mine = gem_projection(gradient, memories, margin, epsilon=1e-3)
    gram = (memories @ memories.T).numpy() + 1e-3 * np.eye(3)
    linear = (memories @ gradient).numpy()
    found = minimize(
        lambda v: 0.5 * v @ gram @ v + linear @ v,
        np.full(3, margin),
        jac=lambda v: gram @ v + linear,
        bounds=[(margin, None)] * 3,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12},
    )
    theirs = gradient + torch.tensor(found.x) @ memories
    assert torch.allclose(mine, theirs, atol=1e-5)
    if not margin:
        exact = gem_projection(gradient, memories, 0.0, epsilon=0.0)
        assert float((memories @ exact).min()) >= -1e-8


@pytest.mark.oracle("gem")
def test_a_gradient_that_hurts_nobody_is_left_alone() -> None:
    gradient = torch.ones(4)
    assert gem_projection(gradient, torch.eye(4)[:2], 0.5) is gradient
    assert agem_projection(gradient, torch.ones(4)) is gradient


@pytest.mark.oracle("gem")
def test_group_gradients_are_those_of_each_group_alone() -> None:
    learner = learner_of(sample_stream())
    parts = [learner.train_rows(task) for task in learner.stream]
    for groups in ([part.part(0, 4) for part in parts], [parts[0].part(0, 3), parts[1].part(0, 7)]):
        mine = group_gradients(learner, joined(groups), [len(group) for group in groups])
        theirs = [flat(learner.gradient_of(learner.loss(learner.outputs(rows), rows))) for rows in groups]
        assert torch.allclose(mine, torch.stack(theirs), atol=1e-6)


def test_gem_keeps_the_same_number_of_rows_of_each_task() -> None:
    stream = sample_stream()
    learner = learner_of(stream, "gem:capacity=10")
    strategy = learner.strategy.parts[0]
    assert isinstance(strategy, GEM)
    for number, task in enumerate(stream, start=1):
        learner.task = number - 1
        strategy.after_task(learner, task)
        kept = strategy.memory.rows()
        assert kept is not None
        assert torch.bincount(kept.task).tolist() == [10 // len(stream)] * number


@pytest.mark.oracle("agem")
def test_the_agem_projection_in_closed_form() -> None:
    found = agem_projection(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0]))
    assert found.tolist() == [1.0, 0.0]
    generator = torch.Generator().manual_seed(0)
    reference, gradient = torch.randn(6, generator=generator), torch.randn(6, generator=generator)
    gradient -= 3 * reference
    assert float(agem_projection(gradient, reference) @ reference) == pytest.approx(0, abs=1e-5)


@pytest.mark.oracle("agem")
def test_agem_in_the_loop_takes_no_step_against_its_draw() -> None:
    learner = learner_of(sample_stream(), "agem:capacity=10,batch=10")
    memory = learner.strategy.parts[0].memory
    old, new = (learner.train_rows(task).part(0, 10) for task in learner.stream.tasks[:2])
    memory.add(old)
    for weight, gradient in zip(
        learner.weights, learner.gradient_of(-learner.loss(learner.outputs(old), old)), strict=True
    ):
        weight.grad = gradient  # straight against the old rows
    learner.strategy.parts[0].after_backward(learner, new)
    assert float(flat(learner.gradients()).norm()) == pytest.approx(0, abs=1e-5)


# Architecture


@pytest.mark.oracle("progressive")
def test_progressive_networks_forget_exactly_nothing() -> None:
    """Every output for an earlier task is the same to the bit after later tasks, and so is its accuracy."""
    stream = sample_stream("task")
    seen: dict[int, Tensor] = {}

    class Watched(Progressive):
        def after_task(self, learner: ClassLearner, task: object) -> None:  # type: ignore[override]
            for number in range(learner.task + 1):
                rows = stream.tasks[number].test
                now = self.outputs(learner, rows).detach()  # type: ignore[arg-type]
                assert torch.equal(seen.setdefault(number, now), now)

    result = learn(mlp(SIZES), stream, Watched(Progressive.Settings()), epochs=3, batch_size=5)  # type: ignore[attr-defined]
    assert sorted(seen) == [0, 1, 2]
    assert result.metrics["forgetting"] == 0
    assert len(result.model.columns) == 3


@pytest.mark.oracle("progressive")
def test_a_column_reads_the_columns_before_it() -> None:
    """Layer 2 of column 2: W h + U act(V [a h_before]), worked out by hand."""
    learner = learner_of(sample_stream("task"), "progressive:width=3")
    strategy = learner.strategy.parts[0]
    learner.task = 1
    strategy.before_task(learner, learner.stream.tasks[1])
    first, second = strategy.net.columns
    x = learner.stream.tasks[1].test.inputs  # type: ignore[union-attr]
    h_before, h = first.layers[0](x).relu(), second.layers[0](x).relu()
    lateral = second.laterals[0]
    lifted = lateral.lift(lateral.project(lateral.scales[0] * h_before).relu())
    expected = (second.layers[1](h) + lifted).relu()
    assert torch.allclose(second(x, [first(x, [])])[1], expected)
    assert all(not p.requires_grad for p in first.parameters())


def test_progressive_networks_must_know_the_task() -> None:
    with pytest.raises(InputError, match="must know the task"):
        run("progressive")


def test_joined_rows_keep_their_order() -> None:
    parts = [task.train for task in sample_stream()]
    both = joined([parts[0], parts[2]])  # type: ignore[list-item]
    assert both.task.tolist() == [0] * 20 + [2] * 20
    assert torch.equal(both.at(torch.tensor([20, 0])).index, torch.tensor([0, 0]))
