"""The geometric update: the paper's theorem to the letter, each mode against a dense formulation, and the real loop."""

from __future__ import annotations

import weakref
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.training.gradients import dot, norm, orthonormal
from letheon.forget import separate_gradients
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.updates import geometric
from letheon.forget.updates.geometric import (
    Geometric,
    adam_denominators,
    adam_step,
    cone_step,
    normal_step,
    realized_correction,
)
from tests import naive

pytestmark = pytest.mark.oracle("geometric")
RATES = np.logspace(-1, -4, 7)
SHAPES = [(3, 4), (5,), (2, 2)]


def vector(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


def positive(seed: int) -> list[Tensor]:
    return [tensor.abs() + 0.1 for tensor in vector(seed)]


def flat(tensors: list[Tensor]) -> np.ndarray:
    return torch.cat([tensor.flatten() for tensor in tensors]).numpy()


# The theorem --------------------------------------------------------------------------------------------------------


def quadratic(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    centre = torch.randn(6, dtype=torch.float64, generator=generator)
    return lambda x: 0.5 * (x - centre) @ (root @ root.T) @ (x - centre) / 6


def logistic(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    signs = torch.where(torch.rand(20, generator=generator) < 0.5, -1.0, 1.0).double()
    return lambda x: softplus(-signs * (rows @ x)).mean()


@pytest.mark.parametrize("family", [quadratic, logistic])
def test_the_retain_loss_changes_by_the_square_of_the_rate_not_by_the_rate(family: Any) -> None:
    retain_loss, forget_loss = family(0), family(1)
    start = torch.full((6,), 0.3, dtype=torch.float64, requires_grad=True)
    g_r = torch.autograd.grad(retain_loss(start), start)[0]
    g_f = -torch.autograd.grad(forget_loss(start), start)[0]  # forgetting climbs its loss
    projected = normal_step([g_f], [g_r], [[g_r]], descend_retain=False)[0]

    def exponent(direction: Tensor) -> float:
        with torch.no_grad():
            changes = [abs(float(retain_loss(start - rate * direction) - retain_loss(start))) for rate in RATES]
        return float(np.polyfit(np.log(RATES), np.log(changes), 1)[0])

    # exactly 2 for a quadratic; the largest rates bend the line a little otherwise
    assert exponent(projected) == pytest.approx(2.0, abs=0.05)
    assert exponent(g_f) == pytest.approx(1.0, abs=0.1)


# Mode normal --------------------------------------------------------------------------------------------------------


def test_the_normal_step_is_orthogonal_to_every_protected_gradient_and_descends_the_forget_loss() -> None:
    forget_gradient, protected = vector(0), [vector(1), vector(2), vector(3)]
    step = normal_step(forget_gradient, protected[0], protected, descend_retain=False)
    assert all(abs(dot(step, g)) < 1e-12 for g in protected)
    assert dot(step, forget_gradient) == pytest.approx(dot(step, step))  # a projection


def test_the_normal_step_equals_the_dense_projection_and_keeps_the_retain_gradient() -> None:
    g_f, g_r, other = vector(0), vector(1), vector(2)
    q, _ = np.linalg.qr(np.stack([flat(g_r), flat(other)], axis=1))
    expected = flat(g_f) - q @ (q.T @ flat(g_f)) + flat(g_r)  # g_r lies in the span
    np.testing.assert_allclose(flat(normal_step(g_f, g_r, [g_r, other])), expected, atol=1e-12)


def test_one_coefficient_serves_all_tensors_together() -> None:
    g_f, g_r = vector(0), vector(1)
    share = dot(g_f, g_r) / dot(g_r, g_r)
    expected = [f - share * r for f, r in zip(g_f, g_r, strict=True)]
    np.testing.assert_allclose(flat(normal_step(g_f, g_r, [g_r], False)), flat(expected), atol=1e-12)


def test_without_a_retain_gradient_the_forget_gradient_stays_as_it_is() -> None:
    g_f, zero = vector(0), [torch.zeros_like(tensor) for tensor in vector(0)]
    assert all(torch.equal(a, b) for a, b in zip(normal_step(g_f, zero, [zero]), g_f, strict=True))


def test_near_parallel_gradients_add_no_direction() -> None:
    base, noise = vector(0), vector(1)
    parallel = [a + 1e-9 * b for a, b in zip(base, noise, strict=True)]
    basis = orthonormal([base, parallel, vector(2)])
    assert len(basis) == 2
    assert abs(dot(basis[0], basis[1])) < 1e-14
    assert [norm(direction) for direction in basis] == pytest.approx([1, 1])


# Mode adam ----------------------------------------------------------------------------------------------------------


def dense_adam(
    g_f: np.ndarray, g_r: np.ndarray, protected: np.ndarray, h: np.ndarray, tau: float, kappa: float, repair: float
) -> tuple[np.ndarray, float]:
    """The raw gradient, and <g_r, P g> as the paper's guarantee has it."""
    s = 1 / np.sqrt(h)
    q, _ = np.linalg.qr((protected * s).T)
    z_f, z_r = s * g_f, s * g_r
    a, b = q.T @ z_f, q.T @ z_r
    normal, kept = z_f - q @ a, np.where(a * b > max(tau, 1e-9), a, 0)
    share = min(1, kappa * np.linalg.norm(normal) / np.linalg.norm(kept)) if kept.any() else 0
    z = normal + share * (q @ kept) + repair * (q @ b)
    return z / s, share * (kept @ b) + repair * (b @ b)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("tau", "kappa", "repair"), [(0, 1, 1), (0, 0.01, 0), (0.05, 1, 0.3)])
def test_the_adam_step_equals_the_dense_formulation_and_never_raises_the_retain_loss(
    seed: int, tau: float, kappa: float, repair: float
) -> None:
    g_f, protected, h = vector(seed), [vector(100 + seed), vector(200 + seed)], positive(300 + seed)
    step = adam_step([t.clone() for t in g_f], protected[0], protected, h, tau, kappa, repair)
    dense, guarantee = dense_adam(
        flat(g_f), flat(protected[0]), np.stack([flat(v) for v in protected]), flat(h), tau, kappa, repair
    )
    np.testing.assert_allclose(flat(step), dense, atol=1e-10)
    moved = float(flat(protected[0]) @ (flat(step) / flat(h)))  # the step is -lr times this direction
    assert moved == pytest.approx(guarantee, abs=1e-10)
    assert moved >= -1e-12


def test_kappa_zero_without_repair_gives_the_pure_normal_part() -> None:
    g_f, g_r, h = vector(0), vector(1), positive(2)
    step = adam_step([t.clone() for t in g_f], g_r, [g_r], h, 0.0, 0.0, 0.0)
    preconditioned = [t / d for t, d in zip(step, h, strict=True)]
    assert abs(dot(preconditioned, g_r)) < 1e-12


def test_denominators_of_one_make_the_adam_step_the_normal_step() -> None:
    g_f, g_r = vector(0), vector(1)
    ones = [torch.ones_like(tensor) for tensor in g_f]
    step = adam_step([t.clone() for t in g_f], g_r, [g_r], ones, 0.0, 0.0, 1.0)
    np.testing.assert_allclose(flat(step), flat(normal_step(g_f, g_r, [g_r])), atol=1e-12)


# Mode realized ------------------------------------------------------------------------------------------------------


def brute_force(proposal: np.ndarray, g: np.ndarray, m: np.ndarray) -> np.ndarray:
    """The nearest step with gᵢ·Δ <= 0 in the norm of M, by trying every set of active constraints."""
    best, distance = None, np.inf
    for size in range(len(g) + 1):
        for active in combinations(range(len(g)), size):
            rows = g[list(active)]
            step = proposal.copy()
            if size:
                multipliers = np.linalg.lstsq(rows / m @ rows.T, rows @ proposal, rcond=None)[0]
                step = proposal - (multipliers @ rows) / m
            far = ((step - proposal) ** 2 * m).sum()
            if (g @ step <= 1e-10).all() and far < distance:
                best, distance = step, far
    assert best is not None
    return best


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("constraints", [1, 2, 4])
def test_the_correction_is_the_nearest_safe_step(seed: int, constraints: int) -> None:
    proposal, metric = vector(seed), positive(50 + seed)
    protected = [vector(1000 + 10 * seed + i) for i in range(constraints)]
    step, before, after = realized_correction(proposal, protected, metric)
    unit = np.stack([flat(g) / np.linalg.norm(flat(g)) for g in protected])
    np.testing.assert_allclose(flat(step), brute_force(flat(proposal), unit, flat(metric)), atol=1e-9)
    assert before == pytest.approx(float((unit @ flat(proposal)).max()))
    assert after == pytest.approx(float((unit @ flat(step)).max()))


@pytest.mark.parametrize("seed", range(12))
def test_the_correction_satisfies_the_conditions_of_karush_kuhn_and_tucker(seed: int) -> None:
    proposal, metric = vector(seed), positive(50 + seed)
    protected = [vector(2000 + 10 * seed + i) for i in range(8)]
    protected.append([t.clone() for t in protected[0]])  # a constraint twice: the multipliers are not unique
    step = flat(realized_correction(proposal, protected, metric)[0])
    g = np.stack([flat(v) / np.linalg.norm(flat(v)) for v in protected])
    assert (g @ step).max() < 1e-10  # feasible
    pull = flat(metric) * (flat(proposal) - step)  # stationary: this is Gλ
    active = g @ step > -1e-9
    from scipy.optimize import nnls

    multipliers, residual = nnls(g[active].T, pull) if active.any() else (np.zeros(0), float(np.linalg.norm(pull)))
    assert residual < 1e-8  # λ >= 0 on active constraints alone: complementary
    assert (multipliers >= 0).all()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("repair", [0.0, 1.0])
def test_the_cone_step_is_the_nearest_gradient_whose_step_raises_no_protected_loss(seed: int, repair: float) -> None:
    forget_gradient, denominators = vector(seed), positive(seed + 50)
    protected = [vector(seed + 1), vector(seed + 2), vector(seed + 3)]
    found = flat(cone_step(forget_gradient, protected[0], protected, denominators, repair))
    inverse = 1 / flat(denominators)
    matrix = np.stack([flat(g) / np.linalg.norm(flat(g)) for g in protected])
    wanted = flat(forget_gradient) + repair * flat(protected[0])
    slack = matrix @ (inverse * found)
    assert (slack >= -1e-9).all()
    # Karush, Kuhn and Tucker: found - wanted = Gλ with λ ≥ 0, and λ is 0 where the constraint is slack
    multipliers, *_ = np.linalg.lstsq(matrix.T, found - wanted, rcond=None)
    assert np.linalg.norm(matrix.T @ multipliers - (found - wanted)) < 1e-9
    assert (multipliers >= -1e-9).all()
    assert abs(multipliers @ slack) < 1e-9


def test_the_cone_leaves_a_gradient_alone_that_harms_nothing() -> None:
    gradient = vector(0)
    assert flat(cone_step(gradient, gradient, [gradient], positive(1), 0.0)) == pytest.approx(flat(gradient))


def test_a_finite_step_is_halved_until_the_retain_loss_stays(deletion: Request) -> None:
    options: dict[str, Any] = {"device": "cpu", "steps": 4, "batch_size": 4, "precision": "float32"}
    recipe = "gradient_ascent+geometric:mode=realized,finite_step=true"
    run = forget("tiny", deletion, recipe, learning_rate=0.03, **options)
    scales = [metrics["scale"] for metrics in run.outcome.history]
    assert all(scale == 0 or np.log2(scale) == round(np.log2(scale)) for scale in scales)
    assert min(scales) < 1  # at this rate the whole step does harm
    gentle = forget("tiny", deletion, recipe, learning_rate=1e-6, **options)
    assert {metrics["scale"] for metrics in gentle.outcome.history} == {1.0}


def test_finite_steps_belong_to_the_realized_mode() -> None:
    with pytest.raises(InputError, match="finite_step with mode adam"):
        Recipe.parse("npo+geometric:mode=adam,finite_step=true")


def test_a_safe_proposal_passes_unchanged() -> None:
    proposal = vector(0)
    protected = [[-tensor for tensor in proposal]]
    step, before, after = realized_correction(proposal, protected, positive(1))
    assert step is proposal
    assert before == after < 0


# Through the real loop ----------------------------------------------------------------------------------------------


def retain_gradient(model: LanguageModel, request: Request, numbers: list[int]) -> list[Tensor]:
    rows = model.encoder().encode_all(request.retain)
    before = [parameter.requires_grad for parameter in model.model.parameters()]
    model.model.requires_grad_(True)
    found = naive.gradients(naive.nll_of_tokens(model, [rows[i] for i in numbers]), model)
    for parameter, state in zip(model.model.parameters(), before, strict=True):
        parameter.requires_grad_(state)
    return found


@pytest.mark.parametrize("objective", ["npo", "gradient_ascent"])
def test_the_realised_step_raises_no_protected_loss(
    objective: str, deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, slopes = Geometric.step, []

    def step(self: Geometric, loop: Any, objective: Any, pairs: Any) -> dict[str, float]:
        numbers = [int(i) - len(deletion.forget) for pair in pairs for i in pair.retain.index]
        gradient = retain_gradient(loop.model, deletion, numbers)
        before = [parameter.detach().clone() for parameter in loop.parameters.values()]
        metrics = original(self, loop, objective, pairs)
        moved = [parameter.detach() - b for parameter, b in zip(loop.parameters.values(), before, strict=True)]
        slopes.append(dot(gradient, moved) / (norm(gradient) * norm(moved)))
        return metrics

    monkeypatch.setattr(Geometric, "step", step)
    options = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32", "weight_decay": 0.1}
    result = forget("tiny", deletion, f"{objective}+geometric:mode=realized", device="cpu", **options)
    history = result.outcome.history
    assert len(slopes) == 6  # the correction was called at every step
    assert max(m["violation_before"] for m in history) > 1e-4  # AdamW's own steps would have raised a loss
    # cosines; weights near 1 hold a step of 1e-3 to 1e-7 / 1e-3 of its size
    assert max(slopes) < 1e-4


def test_the_gradient_that_the_optimizer_gets_is_orthogonal_in_mode_normal(deletion: Request) -> None:
    handed = first_gradient("gradient_ascent+geometric:mode=normal", deletion)
    model = handed["model"]
    gradient = retain_gradient(model, deletion, handed["numbers"])
    assert abs(dot(handed["gradient"], gradient)) / (norm(handed["gradient"]) * norm(gradient)) < 1e-5
    joint = first_gradient("gradient_ascent", deletion)
    assert abs(dot(joint["gradient"], gradient)) / (norm(joint["gradient"]) * norm(gradient)) > 1e-2


def first_gradient(text: str, request: Request) -> dict[str, Any]:
    """What the optimizer is given at the first step, with the untouched model and the plan's retain rows."""
    from letheon.core.model.models import load

    found: dict[str, Any] = {}

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        found["gradient"] = [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]

    handle = register_optimizer_step_pre_hook(take)
    try:
        forget("tiny", request, text, device="cpu", steps=1, batch_size=4, precision="float32")
    finally:
        handle.remove()
    plan = Recipe.parse(text).sampler.make().plan(request, 4, 1, 0)
    return {**found, "model": load("tiny", device="cpu"), "numbers": plan[0][1]}


def test_mode_adam_hands_over_a_gradient_whose_preconditioned_step_is_safe(
    deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    descend, separate, safe, current = geometric.descend, geometric.separate_gradients, [], []

    def checked(loop: Any, gradient: list[Tensor]) -> float:
        h = adam_denominators(loop)
        preconditioned = [g / d for g, d in zip(gradient, h, strict=True)]
        safe.append(dot(preconditioned, current[-1]) / (norm(preconditioned) * norm(current[-1])))
        return descend(loop, gradient)

    def recorded(*arguments: Any, **options: Any) -> Any:
        gradients = separate(*arguments, **options)
        current.append([tensor.clone() for tensor in gradients.retain])
        return gradients

    monkeypatch.setattr(geometric, "descend", checked)
    monkeypatch.setattr(geometric, "separate_gradients", recorded)
    options = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32"}
    forget("tiny", deletion, "grad_diff+geometric:mode=adam", device="cpu", **options)
    assert len(safe) == 4
    assert min(safe) > -1e-5


def test_no_micro_batch_s_graph_outlives_it(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tokens=value a forward pass has two gradients; both are taken before the next one is made."""
    original, graphs, alive = separate_gradients.terms_of, [], []

    def terms_of(model: Any, objective: Any, pair: Any) -> Any:
        alive.append(sum(graph() is not None for graph in graphs))
        terms = original(model, objective, pair)
        graphs.extend(weakref.ref(term) for term in (terms.forget, terms.keep) if term is not None)
        return terms

    monkeypatch.setattr(separate_gradients, "terms_of", terms_of)
    options = {"steps": 1, "batch_size": 8, "micro_batch_size": 2, "precision": "float32", "device": "cpu"}
    forget("tiny", deletion, "npo:tokens=value+geometric", **options)
    assert len(alive) == 8  # four forget and four retain halves
    assert max(alive) <= 2  # at most the pass before, whose names still stand


def test_earlier_retain_gradients_are_protected_up_to_the_rank(deletion: Request) -> None:
    update = Recipe.parse("npo+geometric:rank=3").update.make()
    from letheon.core.model.models import load
    from letheon.core.training.loop import Loop
    from letheon.core.training.settings import TrainSettings

    model = load("tiny", device="cpu")
    loop = Loop(model, dict(model.model.named_parameters()), TrainSettings(precision="float32"), 4)
    rows = naive.rows_of(model, deletion)
    objective = Recipe.parse("npo").objective.make()
    objective.prepare(model, rows, [([0], [0])])
    for step in range(4):
        update.step(loop, objective, [naive.pair_of(rows, [0], [step])])
    assert len(update.history) == 2
    again = Geometric()
    again.load_state_dict(update.state_dict())
    assert all(
        torch.equal(a, b) for x, y in zip(again.history, update.history, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("rank", [0, 10])
def test_a_rank_that_cannot_be_is_refused(rank: int) -> None:
    with pytest.raises(InputError, match="rank"):
        Recipe.parse(f"npo+geometric:rank={rank}")


def test_retain_rows_are_needed(deletion: Request) -> None:
    with pytest.raises(InputError, match=r"geometric\S* needs retain rows"):
        forget("tiny", Request(forget=deletion.forget), "npo+geometric", steps=1)
