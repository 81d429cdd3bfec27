"""Geometric: split the forget gradient by the retain gradients and step only where retention does not lose.

Paper:   Geometric-disentanglement Unlearning, arXiv 2511.17100 (key `gu`).
         To first order an update leaves the retain loss unchanged iff it is orthogonal to the span of retain gradients.
Modes:   `normal`    (v1) forget part off the span, retain part inside it, Euclidean.
         `adam`      (v3/v4) the same in the metric of Adam's denominators, with the sign rule for tangent components.
         `cone`      the nearest gradient, in that metric, along which no protected retain loss rises to first order.
         `realized`  corrects the step that AdamW really made, with momentum, decay and clipping: the nearest step, in
                     that metric, along which no protected retain loss rises to first order. It is the default: AdamW's
                     momentum and denominators turn the steps of the other modes up the retain gradient again (largest
                     cosine .15 in mode normal, .21 in mode adam, 7e-8 in this one), and at equal forgetting it keeps
                     as much as they do (`letheon papers show gu`).
Differs: one basis over all selected tensors (the legacy code has one a tensor, from retain batches that are never
         refreshed). Before Adam has seen a gradient its metric is taken as Euclidean [inferred]. τ = 0, κ = 1 and
         β_rep = 1 are our choice: the paper's values are not known [inferred]. Where the objective has no retain term
         (α = 0), the retain rows' negative log-likelihood is protected, and not descended. In mode `realized` weights
         with next to no gradient have denominators near ε, so the nearest step would move them far beyond where first
         order holds: `floor` (ours) bounds the metric from below. There M is made of the
         bias-corrected v̂, and `rank` counts this step's gradient. In mode `adam` the retain part carries the
         objective's α beside β_rep. All weights move unless a scope says otherwise; the authors' code moves the last
         five blocks, the last norm and the vocabulary matrix. `@layers=11-` of 16 blocks holds the vectors, and the
         promise, for the last five alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.registry import method
from letheon.core.scoring.likelihood import score
from letheon.core.training.gradients import (
    Vector,
    add,
    coefficients,
    combination,
    dot,
    norm,
    orthonormal,
    safe_multipliers,
)
from letheon.forget.parts import Objective, Pair, Update
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.separate_gradients import SeparateGradients, descend, separate_gradients

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop


# A product of components below this share of the lengths is rounding of float32.
ROUNDING = 1e-5
# A retain gradient shorter than this share of the forget gradient's length is rounding too.
NOISE = 1e-6
# Scales that `finite_step` tries, as in the authors' code.
SCALES = tuple(2.0**-i for i in range(7))


@dataclass(frozen=True)
class Settings:
    mode: Literal["normal", "adam", "cone", "realized"] = "realized"
    rank: int = 8  # number of protected retain gradients: this step's and the rank - 1 steps' before it
    tau: float = 0.0  # a tangent component is kept if it lowers the retain loss by more than this
    kappa: float = 1.0  # kept tangent components are at most this many times as long as the normal part
    repair: float = 1.0  # β_rep, weight of the retain part in modes adam and cone
    floor: float = 0.01  # mode realized: no denominator below this share of their mean; 0 is the paper's metric
    finite_step: bool = False  # mode realized: halve the step until this batch's retain loss really stays
    budget: float = 1e-4  # largest rise of that loss, nats per token

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 9:
            raise InputError(f"geometric: rank {self.rank}", "use 1 (only this step's retain gradient) to 9")
        if self.finite_step and self.mode != "realized":
            raise InputError(f"geometric: finite_step with mode {self.mode}", "it goes with mode=realized")


def normal_step(forget: Vector, retain: Vector, protected: Sequence[Vector], descend_retain: bool = True) -> Vector:
    """P g_f + Q Qᵀ g_r, Q a basis of the protected retain gradients and P = I − QQᵀ."""
    basis = orthonormal(protected)
    step = [tensor.clone() for tensor in forget]
    for _ in range(2):
        for direction in basis:
            add(step, -dot(direction, step), direction)
    if descend_retain and basis:
        add(step, 1.0, combination(basis, coefficients(basis, retain)))
    return step


def adam_step(
    forget: Vector,
    retain: Vector,
    protected: Sequence[Vector],
    denominators: Vector,
    tau: float,
    kappa: float,
    repair: float,
) -> Vector:
    """The raw gradient whose Adam-preconditioned step is s·z_keep + z_⊥ + β_rep QQᵀz_r in the whitened space.

    Whitening is S g with S = diag(h^{-1/2}), h Adam's denominators; the result is written back as S^{-1} z.
    """
    root = [h.sqrt() for h in denominators]

    def whiten(vector: Vector) -> Vector:
        return [tensor / r for tensor, r in zip(vector, root, strict=True)]

    z_forget, z_retain = whiten(forget), whiten(retain)
    basis = orthonormal([whiten(vector) for vector in protected])
    if not basis:
        return [tensor.clone() for tensor in forget]
    a, b = coefficients(basis, z_forget), coefficients(basis, z_retain)
    z = z_forget
    add(z, -1.0, combination(basis, a))
    # earlier gradients' directions are orthogonal to this step's: there b is rounding, whose sign must not decide
    least = max(tau, ROUNDING * float(np.linalg.norm(a) * np.linalg.norm(b)))
    kept = [x if x * y > least else 0.0 for x, y in zip(a, b, strict=True)]
    length = float(np.linalg.norm(kept))
    share = min(1.0, kappa * norm(z) / length) if length > 0 else 0.0
    weights = [share * k + repair * y for k, y in zip(kept, b, strict=True)]
    add(z, 1.0, combination(basis, weights))
    return [tensor * r for tensor, r in zip(z, root, strict=True)]


def cone_step(
    forget: Vector, retain: Vector, protected: Sequence[Vector], denominators: Vector, repair: float
) -> Vector:
    """The raw gradient g nearest to g_f + β_rep g_r, in the metric of Adam's denominators, with <P g, g_r> ≥ 0 for all
    protected g_r: its preconditioned step −P g raises none of their losses.

    With K = GᵀPG and λ ≥ 0 from the violations −GᵀP(g_f + β_rep g_r), g = g_f + β_rep g_r + Gλ. What repair adds to
    the forget gradient before the projection is our reading [inferred].
    """
    wanted = [tensor.clone() for tensor in forget]
    add(wanted, repair, retain)
    lengths, protected = _lengths(protected)
    if not protected:
        return wanted
    inverse = [1 / h for h in denominators]
    violations = -np.array([dot(g, wanted, inverse) for g in protected]) / lengths
    gram = _gram(protected, lengths, inverse)
    for g, length, multiplier in zip(protected, lengths, safe_multipliers(gram, violations), strict=True):
        if multiplier:
            add(wanted, float(multiplier / length), g)
    return wanted


def realized_correction(proposal: Vector, protected: Sequence[Vector], metric: Vector) -> tuple[Vector, float, float]:
    """The nearest step to Δ₀ in the norm of M = diag(metric) with <g, Δ> ≤ 0 for every protected g.

    Returns the step, and the largest violation max <g/‖g‖, Δ> before and after.
    """
    lengths, protected = _lengths(protected)
    if not protected:
        return proposal, 0.0, 0.0
    violations = np.array([dot(g, proposal) for g in protected]) / lengths
    if (violations <= 0).all():
        return proposal, float(violations.max()), float(violations.max())
    inverse = [1 / m for m in metric]
    multipliers = safe_multipliers(_gram(protected, lengths, inverse), violations)
    step = [tensor.clone() for tensor in proposal]
    for g, length, multiplier in zip(protected, lengths, multipliers, strict=True):
        if multiplier:
            for target, tensor, i in zip(step, g, inverse, strict=True):
                target.addcmul_(tensor, i, value=-float(multiplier / length))
    left = np.array([dot(g, step) for g in protected]) / lengths
    return step, float(violations.max()), float(left.max())


def _lengths(protected: Sequence[Vector]) -> tuple[NDArray[np.float64], list[Vector]]:
    """Return the norms that are not zero, and their vectors: copies of unit length would take as much memory again."""
    pairs = [(length, g) for length, g in ((norm(g), g) for g in protected) if length > 0]
    return np.array([length for length, _ in pairs]), [g for _, g in pairs]


def _gram(vectors: Sequence[Vector], lengths: NDArray[np.float64], weight: Vector) -> NDArray[np.float64]:
    """The weighted inner products of vectors that are scaled to unit length."""
    return np.array([[dot(g, h, weight) for h in vectors] for g in vectors]) / np.outer(lengths, lengths)


@method(
    "update",
    "geometric",
    Settings,
    paper="2511.17100",
    needs={"retain"},
    recipes={"gu": "simnpo+geometric"},
    tiny=({}, {"mode": "normal"}, {"mode": "adam"}, {"mode": "cone"}, {"finite_step": True}),
)
class Geometric(Update):
    settings: Settings
    history: Sequence[Vector] = ()
    # while a step is corrected, with the default mode and rank: both gradients, the retain gradients of the seven steps
    # before, the weights before the step, the step as AdamW took it and as it is corrected, the metric and its inverse
    bytes_per_weight = Update.bytes_per_weight + 4 * (2 + 7 + 1 + 2 + 2)

    @staticmethod
    def check_recipe(recipe: Recipe, request: Request | None) -> None:
        """Refuse `tokens=value` or `words` without a retain term: the kept tokens' loss alone is no protection."""
        settings = recipe.objective.settings
        tokens = getattr(settings, "tokens", "answer")
        if tokens != "answer" and not settings.alpha:
            raise InputError(
                f"geometric with tokens={tokens} needs the objective's retain term, which has alpha=0",
                f"write {recipe.objective.method.name}:tokens={tokens},alpha=1.0",
            )

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        settings = self.settings
        gradients = separate_gradients(loop, objective, pairs, protect_rows=True)
        # at the very start some retain losses (a KL to oneself) have gradients that are rounding: they protect nothing
        least = NOISE * norm(gradients.forget)
        protected = [vector for vector in (gradients.retain, *self.history) if norm(vector) > least]
        origin = [parameter.detach().clone() for parameter in loop.parameters.values()] if settings.finite_step else []
        metrics = {**gradients.metrics, "loss": gradients.forget_loss}
        if settings.mode == "realized":
            metrics |= self._realized(loop, gradients, protected)
        else:
            lengths = max(norm(gradients.forget) * norm(gradients.retain), 1e-30)
            metrics["alignment"] = dot(gradients.forget, gradients.retain) / lengths
            descend(loop, self._gradient(loop, gradients, protected))
        if settings.finite_step:
            metrics |= self._shortened(loop, pairs, origin)
        metrics["protected"] = float(len(protected))
        self.history = protected[: settings.rank - 1]
        return metrics

    def _gradient(self, loop: Loop, gradients: SeparateGradients, protected: Sequence[Vector]) -> Vector:
        """The raw gradient of the modes that change the gradient before the optimizer sees it."""
        settings, forget, retain = self.settings, gradients.forget, gradients.retain
        if settings.mode == "normal":
            return normal_step(forget, retain, protected, gradients.retain_term)
        repair = settings.repair if gradients.retain_term else 0.0
        denominators = adam_denominators(loop)
        if settings.mode == "cone":
            return cone_step(forget, retain, protected, denominators, repair)
        return adam_step(forget, retain, protected, denominators, settings.tau, settings.kappa, repair)

    def _realized(self, loop: Loop, gradients: SeparateGradients, protected: Sequence[Vector]) -> dict[str, float]:
        """Take AdamW's step of the summed gradients, then replace it by the nearest safe step."""
        parameters = list(loop.parameters.values())
        start = [parameter.detach().clone() for parameter in parameters]
        gradient = [tensor.clone() for tensor in gradients.forget]
        if gradients.retain_term:
            add(gradient, 1.0, gradients.retain)
        descend(loop, gradient)
        proposal = [parameter.detach() - before for parameter, before in zip(parameters, start, strict=True)]
        step, before, after = realized_correction(proposal, protected, self._metric(loop))
        if step is proposal:  # safe already: AdamW's own weights stay, bit for bit
            return {"violation_before": before, "violation_after": after, "correction": 0.0}
        with torch.no_grad():
            for parameter, origin, move in zip(parameters, start, step, strict=True):
                parameter.copy_(origin + move)
        add(proposal, -1.0, step)
        length = max(norm(step), 1e-30)
        return {"violation_before": before, "violation_after": after, "correction": norm(proposal) / length}

    def _shortened(self, loop: Loop, pairs: Sequence[Pair], origin: Vector) -> dict[str, float]:
        """Keep the largest of the scales 1, ½, ... 1/64 at which the retain loss rises by no more than the budget."""
        parameters = list(loop.parameters.values())
        step = [parameter.detach() - start for parameter, start in zip(parameters, origin, strict=True)]
        _place(parameters, origin, step, 0.0)
        before = retain_loss(loop, pairs)
        for scale in (*SCALES, 0.0):
            _place(parameters, origin, step, scale)
            if scale == 0.0 or retain_loss(loop, pairs) - before <= self.settings.budget:
                break
        return {"scale": scale}

    def _metric(self, loop: Loop) -> Vector:
        denominators = adam_denominators(loop)
        total = loop.sharding.total
        mean = total(sum(float(h.sum()) for h in denominators)) / total(sum(h.numel() for h in denominators))
        return [h.clamp(min=self.settings.floor * mean) for h in denominators]

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{i}/{j}": tensor for i, vector in enumerate(self.history) for j, tensor in enumerate(vector)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        ranks = len({name.split("/")[0] for name in state})
        width = len(state) // max(ranks, 1)
        self.history = [[state[f"{i}/{j}"] for j in range(width)] for i in range(ranks)]


@torch.no_grad()
def _place(parameters: Sequence[Tensor], origin: Vector, step: Vector, scale: float) -> None:
    for parameter, start, move in zip(parameters, origin, step, strict=True):
        parameter.copy_(start + scale * move)


@torch.no_grad()
def retain_loss(loop: Loop, pairs: Sequence[Pair]) -> float:
    """Mean negative log-likelihood (nats per token) of the step's retain rows, over all processes."""
    losses = [
        -float(pair.retain.mean(score(loop.model, pair.retain).logp, "tokens"))
        for pair in pairs
        if pair.retain is not None
    ]
    return loop.reduce_metrics({"retain": sum(losses)})["retain"]


def adam_denominators(loop: Loop) -> Vector:
    """sqrt(v̂) + ε of Adam's present state, bias corrected; ones for a parameter without a state."""
    return [adam_denominator(loop, parameter) for parameter in loop.parameters.values()]


def adam_denominator(loop: Loop, parameter: Tensor) -> Tensor:
    """The denominators of one parameter; see `adam_denominators`."""
    group, state = loop.optimizer.param_groups[0], loop.optimizer.state.get(parameter)
    if not state:
        return torch.ones_like(parameter)
    corrected: Tensor = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return corrected.sqrt_().add_(group["eps"])
