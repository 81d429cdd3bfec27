"""The bilevel update: derivatives against closed forms and autograd, its rounds, and its seat in the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.training.finetuning import finetune
from letheon.core.training.gradients import Vector
from letheon.core.training.settings import TrainSettings
from letheon.forget.curvature.hessian_products import LossDerivatives, central_difference
from letheon.forget.curvature.similarity import similarity, similarity_bends, similarity_slopes
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.updates.bilevel import Inner, Settings, outer_gradient, place_in_round
from tests import naive

oracle = pytest.mark.oracle("bilevel")
EXACT = {"hvp": "exact"}
# float64: a central difference with ε = 1e-5 is exact to ε² and to 1e-16 / ε
FINE = {"hvp": "fd", "epsilon": 1e-5}


class Quadratics:
    """L_f = ½θᵀAθ + aᵀθ and L_r = ½θᵀBθ + bᵀθ in float64, θ in two tensors, each loss in two shares."""

    def __init__(self, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        self.matrices = [root + root.T for root in (random(6, 6), random(6, 6))]
        self.slopes = [random(6), random(6)]
        self.weights = [nn.Parameter(random(2)), nn.Parameter(random(2, 2))]

    def point(self) -> Tensor:
        return torch.cat([weight.flatten() for weight in self.weights])

    def value(self, which: int, point: Tensor) -> Tensor:
        return 0.5 * point @ self.matrices[which] @ point + self.slopes[which] @ point

    def side(self, which: int) -> LossDerivatives:
        return LossDerivatives(
            lambda: [share * self.value(which, self.point()) for share in (0.25, 0.75)], self.weights
        )

    def inner(self, **options: Any) -> Inner:
        return Inner(self.side(0), self.side(1), Settings(**options))

    def gradients(self, point: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (matrix @ point + slope for matrix, slope in zip(self.matrices, self.slopes, strict=True))
        return first, second

    def slope(self, point: Tensor, beta: float) -> Tensor:
        """∇Φ in closed form: g_f − β(A u + B w), with u and w as the paper's derivation has them."""
        f, r = self.gradients(point)
        lengths = f.norm() * r.norm()
        c = f @ r / lengths
        u, w = r / lengths - c * f / (f @ f), f / lengths - c * r / (r @ r)
        return f - beta * (self.matrices[0] @ u + self.matrices[1] @ w)


def flat(vector: Vector) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in vector]).detach()


def close(found: Vector, expected: Tensor, tolerance: float) -> None:
    assert float((flat(found) - expected).norm() / expected.norm()) < tolerance


# Derivatives ----------------------------------------------------------------------------------------------------------


@oracle
@pytest.mark.parametrize(("options", "tolerance"), [(EXACT, 1e-12), (FINE, 1e-8)], ids=["exact", "fd"])
@pytest.mark.parametrize("beta", [0.0, 0.3, 2.0])
def test_the_inner_gradient_is_its_closed_form(options: dict[str, Any], tolerance: float, beta: float) -> None:
    problem = Quadratics()
    expected = problem.slope(problem.point().detach(), beta)
    close(problem.inner(beta=beta, **options).gradient(), expected, tolerance)


@oracle
@pytest.mark.parametrize(("options", "tolerance"), [(EXACT, 1e-11), (FINE, 1e-5)], ids=["exact", "fd"])
def test_the_outer_gradient_is_the_gradient_of_the_penalised_loss(options: dict[str, Any], tolerance: float) -> None:
    """Against autograd through the closed form of F = L_r + ρ‖∇Φ‖²."""
    problem, beta, rho = Quadratics(1), 0.7, 0.2
    point = problem.point().detach().requires_grad_()
    penalised = problem.value(1, point) + rho * (problem.slope(point, beta) ** 2).sum()
    (expected,) = torch.autograd.grad(penalised, point)
    inner = problem.inner(beta=beta, **options)
    close(outer_gradient(inner, inner.gradient(), rho), expected, tolerance)


@oracle
@pytest.mark.parametrize("penalty", ["cos", "cos2", "relu"])
def test_every_penalty_has_the_gradient_of_its_objective(penalty: Any) -> None:
    """Φ itself, differenced, is a second formulation that knows no u and no w."""
    problem = Quadratics(2)
    start = problem.point().detach()

    def phi(point: Tensor) -> Tensor:
        f, r = problem.gradients(point)
        return problem.value(0, point) - 0.5 * similarity([f], [r], penalty)

    steps = 1e-6 * torch.eye(6, dtype=torch.float64)
    numeric = torch.stack([(phi(start + step) - phi(start - step)) / 2e-6 for step in steps])
    close(problem.inner(beta=0.5, penalty=penalty, **EXACT).gradient(), numeric, 1e-7)


@oracle
def test_gauss_leaves_the_hessian_of_the_forget_loss() -> None:
    problem = Quadratics(3)
    inner = problem.inner(hvp="gauss", epsilon=1e-5)
    slope = inner.gradient()
    close(inner.hessian(slope), problem.matrices[0] @ flat(slope), 1e-8)
    full = problem.inner(**EXACT)
    full.gradient()
    assert float((flat(full.hessian(slope)) - flat(inner.hessian(slope))).norm()) > 0.01  # it is another thing


def test_without_beta_the_inner_gradient_is_that_of_the_forget_loss() -> None:
    problem = Quadratics()
    close(problem.inner(beta=0.0).gradient(), problem.gradients(problem.point().detach())[0], 1e-14)


def test_without_rho_the_outer_gradient_is_that_of_the_retain_loss() -> None:
    problem = Quadratics()
    inner = problem.inner(**EXACT)
    close(outer_gradient(inner, inner.gradient(), 0.0), problem.gradients(problem.point().detach())[1], 1e-14)


@oracle
def test_ascending_lowers_the_cosine() -> None:
    """The sign: the cosine is subtracted and Φ ascended. A detached cosine would leave the plain ascent."""
    problem, plain = Quadratics(4), Quadratics(4)

    def after(quadratics: Quadratics, beta: float) -> float:
        slope = quadratics.inner(beta=beta, **EXACT).gradient()
        with torch.no_grad():
            for weight, tensor in zip(quadratics.weights, slope, strict=True):
                weight.add_(tensor, alpha=1e-4)
        f, r = quadratics.gradients(quadratics.point().detach())
        return float(similarity([f], [r]))

    assert after(problem, 5.0) < after(plain, 0.0)


@oracle
def test_slopes_and_bends_of_the_cosine_by_hand() -> None:
    a, b = [torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 0.0])]
    assert float(similarity(a, b)) == pytest.approx(0.6)
    u, w = similarity_slopes(a, b)
    # b/5 − 0.6·a/25 and a/5 − 0.6·b
    assert u[0].tolist() == pytest.approx([0.2 - 0.072, -0.096])
    assert w[0].tolist() == pytest.approx([0.0, 0.8])
    # a scaled vector has the same cosine: the Hessian along a is −u there, because u shrinks as 1/‖a‖
    bend, _ = similarity_bends(a, b, a, [torch.zeros(2)])
    assert bend[0].tolist() == pytest.approx((-u[0]).tolist())


def test_a_gradient_of_zero_has_no_similarity() -> None:
    zero, b = [torch.zeros(2)], [torch.ones(2)]
    assert float(similarity(zero, b)) == 0
    assert all(not tensor.any() for half in similarity_slopes(zero, b) for tensor in half)


def test_a_finite_difference_puts_every_bit_back_even_after_an_error() -> None:
    problem = Quadratics()
    before = [weight.detach().clone() for weight in problem.weights]

    def broken() -> Vector:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="middle"):
        central_difference(broken, problem.weights, problem.side(0).gradient(), 0.1)
    central_difference(problem.side(0).gradient, problem.weights, before, 0.1)
    assert all(torch.equal(weight, old) for weight, old in zip(problem.weights, before, strict=True))


# On a model -----------------------------------------------------------------------------------------------------------


def inner_of(model: LanguageModel, deletion: Request, **options: Any) -> Inner:
    rows = naive.rows_of(model, deletion)
    pair = naive.pair_of(rows, [0, 1, 2], [0, 1])
    objective = Recipe.parse("grad_diff").objective.make()
    weights = list(model.model.parameters())

    def loss(half: str, sign: int) -> Callable[[], list[Tensor]]:
        chosen = pair.only_forget() if half == "forget" else pair.only_retain()
        return lambda: [sign * getattr(objective.terms(model, chosen), half)]

    return Inner(
        LossDerivatives(loss("forget", -1), weights), LossDerivatives(loss("retain", 1), weights), Settings(**options)
    )


@oracle
def test_finite_differences_agree_with_second_derivatives_on_a_trained_model(
    tiny: LanguageModel, deletion: Request
) -> None:
    training = TrainSettings(2e-3, batch_size=16, precision="float32")
    finetune(tiny, [*deletion.forget, *deletion.retain], training, 30)
    with sdpa_kernel(SDPBackend.MATH):
        exact = inner_of(tiny, deletion, **EXACT)
        slope = exact.gradient()
        bend = exact.hessian(slope)
    fd = inner_of(tiny, deletion)
    # float32: rounding over ε, and truncation of ε²; the nested difference loses more
    close(fd.gradient(), flat(slope), 0.01)
    close(fd.hessian(slope), flat(bend), 0.1)


@oracle
def test_the_exact_gradient_is_that_of_a_graph_through_both_gradients(tiny: LanguageModel, deletion: Request) -> None:
    """A naive formulation: one graph through g_f and g_r, and its derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        inner = inner_of(tiny, deletion, beta=0.5, **EXACT)
        slope = inner.gradient()
        (forget_loss,), (retain_loss,) = inner.forget.shares(), inner.retain.shares()
        options = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
        f = torch.autograd.grad(forget_loss, inner.forget.weights, **options)
        r = torch.autograd.grad(retain_loss, inner.forget.weights, **options)
        f, r = (torch.cat([tensor.flatten() for tensor in vector]) for vector in (f, r))
        phi = forget_loss - 0.5 * f @ r / (f.norm() * r.norm())
        expected = torch.autograd.grad(phi, inner.forget.weights)
    close(slope, flat(list(expected)), 1e-4)


# Rounds and the loop --------------------------------------------------------------------------------------------------


def test_rounds_end_with_a_descent_and_the_first_may_be_short() -> None:
    places = [place_in_round(step, 6, 3) for step in range(6)]
    assert places == [(0, False), (0, True), (1, False), (1, False), (1, False), (1, True)]
    assert [place_in_round(step, 2, 0) for step in range(2)] == [(0, True), (1, True)]


TRAINING: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu"}


def test_a_run_tells_losses_cosine_stationarity_and_rho(deletion: Request) -> None:
    result = forget("tiny", deletion, "grad_diff+bilevel:inner_steps=1,cap=0,growth=2", steps=4, **TRAINING)
    history = result.outcome.history
    assert [line["descends"] for line in history] == [0, 1, 0, 1]
    assert [line["rho"] for line in history] == [1e-3, 1e-3, 2e-3, 2e-3]
    assert all({"forget_loss", "retain_loss", "cosine", "stationarity"} <= set(line) for line in history)
    assert history[0]["forget_loss"] == pytest.approx(history[0]["forget_nll"])  # the sign: cross-entropy, ascended
    assert history[1]["forget_loss"] > 5


def test_the_optimizers_are_handed_the_ascent_and_the_descent(deletion: Request) -> None:
    """First ∇Φ with its sign turned (an optimizer descends), then ∇F, both as the pure functions have them."""
    handed: list[Tensor] = []

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        handed.append(flat([p.grad for group in optimizer.param_groups for p in group["params"]]))

    handle = register_optimizer_step_pre_hook(take)
    recipe = "grad_diff+bilevel:inner_steps=1,cap=0,beta=0"
    try:
        forget("tiny", deletion, recipe, steps=2, clip=None, **TRAINING)
    finally:
        handle.remove()
    from letheon.core.model.models import load

    model = load("tiny", device="cpu")
    rows = naive.rows_of(model, deletion)
    numbers = Recipe.parse("grad_diff").sampler.make().plan(deletion, 4, 2, 0)[0][0]
    nll = naive.nll_of_tokens(model, [rows.forget[i] for i in numbers])
    expected = flat(naive.gradients(-nll, model))
    assert float((handed[0] - expected).norm() / expected.norm()) < 1e-5
    assert len(handed) == 2


def test_exact_second_derivatives_are_taken_without_fused_attention(
    deletion: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There and only there: the kernels are as they were afterwards, and with them the error names the way out."""
    before = torch.backends.cuda.flash_sdp_enabled()
    assert forget("tiny", deletion, "grad_diff+bilevel:hvp=exact", steps=1, **TRAINING).moved > 0
    assert torch.backends.cuda.flash_sdp_enabled() == before
    monkeypatch.setattr("letheon.forget.updates.bilevel.sdpa_kernel", lambda _: nullcontext())
    with pytest.raises(InputError, match=r"derivative(?s:.*)hvp=fd"):
        forget("tiny", deletion, "grad_diff+bilevel:hvp=exact", steps=1, **TRAINING)


def test_beyond_the_cap_a_step_descends(deletion: Request) -> None:
    history = forget("tiny", deletion, "grad_diff+bilevel:cap=0.5", steps=4, **TRAINING).outcome.history
    assert [line["descends"] for line in history] == [1, 1, 1, 1]


def test_a_single_level_descends_the_weighted_sum(deletion: Request) -> None:
    single = forget("tiny", deletion, "grad_diff+bilevel:single=1,beta=0", steps=3, **TRAINING)
    joint = forget("tiny", deletion, "grad_diff", steps=3, **TRAINING)
    change = naive.largest_difference(list(single.model.model.parameters()), list(joint.model.model.parameters()))
    assert change < 1e-3  # L_r − λL_f is GradDiff; Adam turns the rounding of small entries into steps of full size


def test_finite_differences_are_taken_in_float32_under_bfloat16_training(deletion: Request) -> None:
    options = {**TRAINING, "precision": "bfloat16"}
    seen = []
    original = LossDerivatives.gradient

    def gradient(self: LossDerivatives) -> Vector:
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossDerivatives, "gradient", gradient)
        forget("tiny", deletion, "grad_diff+bilevel", steps=1, **options)
    assert seen
    assert not any(seen)


def test_facts_alone_are_ascended_and_the_rest_of_the_answer_is_kept(deletion: Request) -> None:
    history = forget("tiny", deletion, "grad_diff:tokens=value+bilevel:cap=0", steps=4, **TRAINING).outcome.history
    assert history[0]["keep_nll"] > 0


@oracle
def test_the_descent_keeps_the_answers_tokens_that_carry_no_fact(tiny: LanguageModel, deletion: Request) -> None:
    """Without ρ the descent is ∇(L_r + keep); the tokens of the forget answers are counted by hand."""
    request = replace(deletion, retain=deletion.retain[:1])  # a run draws retain rows, of one always the same
    plain = naive.frozen_copy(tiny)
    rows = naive.rows_of(plain, request, values=True)
    others = [naive.row_logp(plain, row)[~torch.tensor(row.value)] for row in rows.forget]
    keep, retain = -torch.cat(others).mean(), naive.nll_of_tokens(plain, rows.retain)
    expected = flat(naive.gradients(retain + keep, plain))
    handed: list[Tensor] = []

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        handed.append(flat([p.grad for group in optimizer.param_groups for p in group["params"]]))

    handle = register_optimizer_step_pre_hook(take)
    recipe = "grad_diff:tokens=value+bilevel:inner_steps=0,beta=0,rho=0"
    try:
        forget(tiny, request, recipe, steps=1, clip=None, **TRAINING | {"batch_size": 8})
    finally:
        handle.remove()
    assert float((handed[0] - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("option", ["beta=-1", "inner_steps=-1", "growth=0", "epsilon=0", "hvp=maybe"])
def test_settings_that_cannot_be_are_refused(option: str) -> None:
    with pytest.raises(InputError):
        Recipe.parse(f"grad_diff+bilevel:{option}")


def test_retain_rows_are_needed(deletion: Request) -> None:
    with pytest.raises(InputError, match=r"bilevel\S* needs retain rows"):
        forget("tiny", Request(forget=deletion.forget), "grad_diff+bilevel", steps=1)


def test_the_recipe_of_the_paper() -> None:
    assert str(Recipe.parse("ofmu")) == "grad_diff+bilevel"
    assert Recipe.parse("ofmu+bilevel:beta=1").update.settings.beta == 1
