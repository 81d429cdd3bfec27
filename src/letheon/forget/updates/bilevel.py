"""Bilevel: ascend the forget loss in directions that leave retention alone, then restore retention where that stalls.

Paper:   OFMU, arXiv 2509.22483 (key `ofmu`). Inside, Φ = L_f − β·cos(∇L_f, ∇L_r) is maximised; outside, L_r is
         minimised subject to ∇Φ = 0, as F = L_r + ρ‖∇Φ‖² with a growing ρ:

             for round k = 0, 1, ...:
                 T times:  θ <- θ + η_in ∇Φ(θ)                              `Inner.gradient`
                 once:     θ <- θ - η_out (g_r + 2 ρ_k ∇²Φ ∇Φ)(θ)           `outer_gradient`
                 ρ_(k+1) = growth · ρ_k

Cost:    backward passes with `fd`: 6 an ascent and 18 a descent, where a joint step has 2.
Differs: no code and no settings of the paper are public: β, ρ and its growth, T and ε are ours [inferred]. The descent
         starts where the ascents ended, not where the round began [inferred]. Both go through Adam, each with moments
         of its own, and both are clipped. Every ascent and descent is a step of the run with rows of its own; rounds
         are counted from the end, so that the last step is a descent. L_f is unbounded: past `cap` a step descends.
         L_f is the negated forget term of any objective; with `grad_diff` it is the paper's cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from letheon.core.errors import InputError
from letheon.core.registry import check_settings, method
from letheon.core.scoring.likelihood import score
from letheon.core.training.gradients import Vector, add, norm, scaled
from letheon.forget.curvature.hessian_products import LossDerivatives, central_difference
from letheon.forget.curvature.similarity import Penalty, similarity, similarity_bends, similarity_slopes
from letheon.forget.parts import Objective, Pair, Rows, Scope, Update, mean_metrics, terms_of
from letheon.forget.recipe import Recipe
from letheon.forget.separate_gradients import descend

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop

Products = Literal["exact", "fd", "gauss"]
Shares = Callable[[], Iterator[Tensor]]
# Metrics of a step by side and micro-batch; of several passes over one, at other weights, the first counts.
FirstMetrics = dict[tuple[str, int], dict[str, float]]


@dataclass(frozen=True)
class Settings:
    beta: float = 0.1  # weight of the similarity; 0 does not decorrelate
    rho: float = 1e-3  # ρ of the first round; 0 does not penalise
    growth: float = 1.1  # of ρ from round to round
    inner_steps: int = 3  # T; 0 only descends
    inner_rate: float = 1.0  # η_in as a share of the learning rate, which is η_out
    penalty: Penalty = "cos"  # of the similarity: as written, or without a reward for opposite gradients
    hvp: Products = "fd"  # second derivatives: exact, by finite differences, or with the cosine held still in ∇²Φ
    epsilon: float = 3e-5  # length of a finite difference over max(1, ‖θ‖); tuned against `exact` on the tiny model
    cap: float = 1.0  # no ascent above this multiple of a uniform guess's loss on the forget answers; 0: no cap
    single: float = 0.0  # λ > 0: no rounds, every step descends L_r − λΦ (the paper's ablation)

    def __post_init__(self) -> None:
        check_settings(self, positive=("growth", "inner_rate", "epsilon"))
        if min(self.beta, self.rho, self.inner_steps, self.cap, self.single) < 0:
            raise InputError("bilevel: beta, rho, inner_steps, cap or single below 0", "use 0 or more")


class Inner:
    """Φ = L_f − β·s(g_f, g_r): its gradient, and its Hessian times a vector.

    Attributes:
        g_forget, g_retain: gradients of both losses where `gradient` was last called.
    """

    def __init__(self, forget: LossDerivatives, retain: LossDerivatives, settings: Settings) -> None:
        self.forget, self.retain, self.settings = forget, retain, settings
        self.g_forget: Vector = []
        self.g_retain: Vector = []

    def gradient(self) -> Vector:
        """∇Φ = g_f − β(H_f u + H_r w), u and w the slopes of the similarity."""
        g_forget, g_retain = self.forget.gradient(), self.retain.gradient()
        slope = [tensor.clone() for tensor in g_forget]
        if self.settings.beta:
            u, w = similarity_slopes(g_forget, g_retain, self.settings.penalty)
            add(slope, -self.settings.beta, self._product(self.forget, u))
            add(slope, -self.settings.beta, self._product(self.retain, w))
        self.g_forget, self.g_retain = g_forget, g_retain  # last: a finite difference calls this at other weights
        return slope

    def hessian(self, v: Vector) -> Vector:
        """∇²Φ v at the weights where `gradient` was called; `gauss` leaves H_f v."""
        if self.settings.hvp == "exact":
            return self._exact(v)
        if self.settings.hvp == "gauss" or not self.settings.beta:
            return self._product(self.forget, v)
        here = self.g_forget, self.g_retain
        product = self._difference(self.gradient, v)
        self.g_forget, self.g_retain = here
        return product

    def _exact(self, v: Vector) -> Vector:
        """H_f v − β∇(uᵀH_f v + wᵀH_r v): third derivatives, and the change of u and w with g_f and g_r."""
        p = self.forget.hessian(v)
        if not self.settings.beta:
            return p
        q = self.retain.hessian(v)
        u, w = similarity_slopes(self.g_forget, self.g_retain, self.settings.penalty)
        a, b = similarity_bends(self.g_forget, self.g_retain, p, q, self.settings.penalty)
        for side, slope, bend in ((self.forget, u, a), (self.retain, w, b)):
            add(p, -self.settings.beta, side.third(slope, v))
            add(p, -self.settings.beta, side.hessian(bend))
        return p

    def _product(self, side: LossDerivatives, v: Vector) -> Vector:
        return side.hessian(v) if self.settings.hvp == "exact" else self._difference(side.gradient, v)

    def _difference(self, function: Callable[[], Vector], v: Vector) -> Vector:
        weights = self.forget.weights
        length = self.settings.epsilon * max(1.0, norm([weight.detach() for weight in weights]))
        return central_difference(function, weights, v, length)


def outer_gradient(inner: Inner, slope: Vector, rho: float) -> Vector:
    """∇F = g_r + 2ρ·∇²Φ·∇Φ, with `slope` = ∇Φ at the same weights."""
    gradient = [tensor.clone() for tensor in inner.g_retain]
    if rho:
        add(gradient, 2 * rho, inner.hessian(slope))
    return gradient


def place_in_round(step: int, total: int, inner_steps: int) -> tuple[int, bool]:
    """The round of a step, from 0, and whether it is the round's descent; the last step of all is one."""
    size, left = inner_steps + 1, total - 1 - step
    return math.ceil(total / size) - 1 - left // size, left % size == 0


# Its seat in the loop ------------------------------------------------------------------------------------------------


@method(
    "update",
    "bilevel",
    Settings,
    paper="2509.22483",
    needs={"retain"},
    recipes={"ofmu": "grad_diff+bilevel"},
    # a shorter finite difference is closer to the derivative, and magnifies rounding
    tiny=({"epsilon": 1e-3, "inner_steps": 1}, {"hvp": "exact", "cap": 0, "inner_steps": 1}),
)
class Bilevel(Update):
    settings: Settings

    @staticmethod
    def check_shards(recipe: Recipe, model: nn.Module | None) -> None:
        """Refuse exact second derivatives of weights in shards, whose gradients come by backward passes only."""
        if recipe.update.settings.hvp == "exact":
            raise InputError(
                "bilevel:hvp=exact differentiates twice, which weights in shards do not allow",
                "use hvp=fd, or --shard off",
            )

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        self.ascent = torch.optim.AdamW(loop.parameters.values(), weight_decay=0.0, fused=True)
        self.keeps = any(not all(row.value) for row in rows.forget if row.value)
        self.uniform = math.log(loop.model.vocabulary)

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        """One ascent of Φ, or the descent of F that ends a round; see the head of this file."""
        settings = self.settings
        seen: FirstMetrics = {}
        number, descends = place_in_round(loop.step, loop.total, settings.inner_steps)
        rho = settings.rho * settings.growth**number
        inner = self._inner(loop, objective, pairs, seen)
        with self._differentiable():
            slope = inner.gradient()
            metrics = loop.reduce_metrics(mean_metrics(list(seen.values())))
            if settings.single:
                descends = True
                gradient = scaled(slope, -settings.single)
                add(gradient, 1.0, inner.g_retain)
            elif descends or self._too_far(metrics):
                descends = True
                gradient = outer_gradient(inner, slope, rho)
            else:
                gradient = scaled(slope, -1.0)
        metrics["cosine"] = float(similarity(inner.g_forget, inner.g_retain))
        metrics |= {"stationarity": norm(slope), "rho": rho, "round": float(number), "descends": float(descends)}
        metrics["gradient_norm"] = self._move(loop, gradient, loop.optimizer if descends else self.ascent)
        return metrics

    def _inner(self, loop: Loop, objective: Objective, pairs: Sequence[Pair], seen: FirstMetrics) -> Inner:
        """Φ on the step's rows."""
        weights = list(loop.parameters.values())
        forget, retain = self._forget(loop, objective, pairs, seen), self._retain(loop, objective, pairs, seen)
        take = loop.take_gradients if loop.model.sharded else None
        return Inner(
            LossDerivatives(forget, weights, lambda v: _summed(loop, v), take),
            LossDerivatives(retain, weights, lambda v: _summed(loop, v), take),
            self.settings,
        )

    def _too_far(self, metrics: Mapping[str, float]) -> bool:
        """Whether the forget answers' loss is past the cap."""
        cap = self.settings.cap
        return bool(cap) and metrics.get("forget_nll", 0.0) > cap * self.uniform

    def _move(self, loop: Loop, gradient: Vector, optimizer: torch.optim.Optimizer) -> float:
        for group in self.ascent.param_groups:
            group["lr"] = loop.optimizer.param_groups[0]["lr"] * self.settings.inner_rate
        return descend(loop, gradient, optimizer)

    def _forget(self, loop: Loop, objective: Objective, pairs: Sequence[Pair], seen: FirstMetrics) -> Shares:
        """L_f in shares: the negated forget term, in float32 (no autocast around the losses)."""

        def shares() -> Iterator[Tensor]:
            for number, pair in enumerate(pairs):
                terms = terms_of(loop.model, objective, pair.only_forget())
                if terms.forget is not None:
                    found = {**terms.metrics, "forget_loss": -float(terms.forget.detach())}
                    seen.setdefault(("forget", number), found)
                    yield -terms.forget

        return shares

    def _retain(self, loop: Loop, objective: Objective, pairs: Sequence[Pair], seen: FirstMetrics) -> Shares:
        """L_r in shares: the retain term (else the answers' negative log-likelihood), and the objective's `keep`."""

        def shares() -> Iterator[Tensor]:
            for number, pair in enumerate(pairs):
                if pair.retain is not None:
                    terms = terms_of(loop.model, objective, pair.only_retain())
                    loss = terms.retain
                    if loss is None:
                        loss = -pair.retain.mean(score(loop.model, pair.retain).logp, "tokens")
                    seen.setdefault(("retain", number), {"retain_loss": float(loss.detach()), **terms.metrics})
                    yield loss
                if self.keeps and pair.forget is not None:
                    keep = terms_of(loop.model, objective, pair.only_forget()).keep
                    if keep is not None:
                        yield keep

        return shares

    @contextmanager
    def _differentiable(self) -> Iterator[None]:
        """For `exact`, attention without fused kernels, which have no second derivative; there and only there."""
        if self.settings.hvp != "exact":
            yield
            return
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        except RuntimeError as error:
            if "derivative" not in str(error):
                raise
            raise InputError(f"bilevel: {str(error).splitlines()[0]}", "write bilevel:hvp=fd") from None

    def state_dict(self) -> dict[str, Tensor]:
        states = [self.ascent.state[weight] for group in self.ascent.param_groups for weight in group["params"]]
        return {f"{key}/{i}": tensor.contiguous() for i, state in enumerate(states) for key, tensor in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        weights = [weight for group in self.ascent.param_groups for weight in group["params"]]
        for name, tensor in state.items():
            key, number = name.split("/")
            self.ascent.state[weights[int(number)]][key] = tensor


def _summed(loop: Loop, vector: Vector) -> Vector:
    """The vector summed over processes."""
    for parameter, tensor in zip(loop.parameters.values(), vector, strict=True):
        parameter.grad = tensor
    return loop.take_gradients()
