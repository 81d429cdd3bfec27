"""Gauss-Newton: a few uphill steps that raise the forget loss as far as the retain rows' outputs allow.

Paper:   Gauss-Newton Unlearning for the LLM Era (K-FADE), arXiv 2602.10568. Raise the forget loss, g_fᵀδ, subject to
         KL(p_θ0 || p_θ0+δ) <= ε on the retain rows. To second order that KL is ½ δᵀGδ, G the Gauss-Newton matrix of the
         outputs at θ0, so δ = η (G + λI)⁻¹ g_f: uphill, for every tracked layer at once. G is fitted once, before the
         first step, by Kronecker factors (`letheon.forget.curvature.kronecker`), and g_f is taken anew at each step
         [inferred].
         η is the learning rate.
Damping: without a number, a tenth of each layer's mean curvature (ours), as is usual for influence functions. Measured
         on networks small enough for the whole matrix (four seeds, mean cosine with the exact step): .61, and .33 at
         the paper's 1e-8 (a gradient: .35 and .07). On the small Llama of `letheon papers show k-fade`, one trial seed,
         five steps under the default budget: the forget loss rises by 2.07 nats per token at a retain KL of .029, at
         1e-8 by 1.70 at .028, at 1e-2, far above that model's curvature of about 1e-4, by .58 at .041.
Differs: what climbs is the negated forget term of whatever objective it is composed with, and its `keep` term where it
         has one; its retain term is not descended, for the curvature stands in its place. No Adam, weight decay or
         clipping. Which layers are tracked is not stated: the blocks' MLPs by default [inferred]. λ is added to a
         curvature in nats of one predicted token. A layer without any curvature stays where it is (ours).
         How η is chosen under a limit on the retain KL is not stated [inferred]; here η is the largest step size, and
         `budget` the limit: a trust region ½ η² vᵀGv <= budget by the model of second order, and beside it (ours) the
         KL that is measured. The quadratic model is one of small steps, and blind to what layers do together, so a
         step that leads too far is shortened until it does not. Of n steps the k-th may lead to budget · (k/n)²: the
         steps are about equally long, and the gradients of the later ones are taken where they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import check_settings, method
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import by_length, some_of, stream_seed
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.reference import Reference
from letheon.forget.curvature.cache import cached
from letheon.forget.curvature.fitting import fit, sampled_passes, warn_of_few_tokens
from letheon.forget.curvature.kronecker import Factors, Kind
from letheon.forget.curvature.linear import Linear, linear_layers
from letheon.forget.mixtures import refuse_moving_experts
from letheon.forget.parts import Objective, Pair, Rows, Scope, Update
from letheon.forget.recipe import Recipe
from letheon.forget.separate_gradients import accumulate

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop

# Rows of a forward pass when the curvature is fitted and the KL is measured.
ROWS_AT_ONCE = 16
# Largest number of rows, of those that fitted the curvature, on which the KL is measured.
ROWS_MEASURED = 256
# A step that leads above its limit is shortened so often; then it is not taken.
TRIES = 12
# The damping, as a share of each layer's mean curvature, where none is given: that of influence functions.
SHARE = 0.1


@dataclass(frozen=True)
class Settings:
    curvature: Kind = "kfac"  # Phi-1.5 ablation: about as good as ekfac, better than diagonal
    damping: float | None = None  # λ, nats per token (the paper: 1e-8); none: SHARE of a layer's mean curvature
    budget: float | None = 0.05  # largest KL on the retain rows, nats a predicted token (ours); none for no limit
    layers: Literal["mlp", "all"] = "mlp"  # which linear layers move, of those in the scope
    rows: int = 2000  # most retain rows that the curvature is fitted on; 0 takes all
    cache: bool = True  # keep the curvature in the user's cache, for the same weights and rows

    def __post_init__(self) -> None:
        if self.damping is not None:
            check_settings(self, positive=("damping",))
        check_settings(self)
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise InputError(f"gauss_newton: budget {self.budget}", "give a finite KL above 0, in nats, or none")
        if self.rows < 0:
            raise InputError(f"gauss_newton: rows {self.rows}", "give 0 (all retain rows) or more")


def uphill(gradients: Mapping[str, Tensor], factors: Factors, damping: float | None) -> dict[str, Tensor]:
    """V = (G + λI)⁻¹ g of every layer [out, in] that has a curvature; without λ, SHARE of its mean curvature.

    Without any curvature (`identity`) V is the gradient itself.
    """
    if damping is None and factors.kind == "identity":
        damping = 0.0
    chosen = {
        name: SHARE * float(block.curvature.mean()) if damping is None else damping
        for name, block in factors.blocks.items()
    }
    return {name: block.precondition(gradients[name], chosen[name]) for name, block in factors.blocks.items()}


def trusted(rate: float, unit_kl: float, limit: float | None) -> float:
    """min(η, √(limit / ½vᵀGv)): to second order, this step along v costs at most the limit.

    Args:
        unit_kl: ½vᵀGv, what a step of one v costs; 0 where nothing predicts it.
    """
    return rate if limit is None or unit_kl <= 0 else min(rate, math.sqrt(limit / unit_kl))


def shortened(share: float, before: float, measured: float, limit: float, tries: int = 1) -> float:
    """The share of a step to try next after a share of it raised the KL above the limit.

    √KL grows evenly along a straight step, so (√limit − √before) / (√measured − √before) of it is about right; a tenth
    less, to end below. Far out, where the KL hardly depends on the step any more, that shortens too little: so at most
    0.9ᵗ of the step is left at the t-th try.
    """
    if not math.isfinite(measured):
        return 0.01 * share
    room, gone = math.sqrt(limit) - math.sqrt(min(before, limit)), math.sqrt(measured) - math.sqrt(min(before, limit))
    return share * min(max(0.9 * room / gone, 0.01), 0.9**tries)


class Uphill(torch.optim.Optimizer):
    """Takes gradients of a loss to descend and moves the layers by −η (G + λI)⁻¹ of them; has no state.

    Attributes:
        limit: largest KL of a step by the quadratic model, nats per predicted token; None for no limit.
        size, predicted_kl: of the last step.
    """

    def __init__(self, layers: Mapping[str, Linear], factors: Factors, damping: float | None, rate: float) -> None:
        parameters = [p for layer in layers.values() for p in (layer.weight, layer.bias) if p is not None]
        super().__init__(parameters, {"lr": rate})
        self.layers, self.factors, self.damping = layers, factors, damping
        self.limit: float | None = None
        self.size = self.predicted_kl = 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # the base's overloads give the closure's loss
        """Take one step; a closure is not called."""
        ascent = {name: -self.layers[name].gradient() for name in self.factors.blocks}
        self._direction = uphill(ascent, self.factors, self.damping)
        self._start = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        known = self.factors.kind != "identity"
        self._unit = self.factors.predicted_kl(self._direction) if known else 0.0
        self._whole = trusted(self.param_groups[0]["lr"], self._unit, self.limit)
        self.take(1.0)

    @torch.no_grad()
    def take(self, share: float) -> None:
        """Replace the last step by this share of it."""
        self.size = share * self._whole
        self.predicted_kl = self.size**2 * self._unit
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, start in zip(parameters, self._start, strict=True):
            parameter.copy_(start)  # not by going back: a step that is far too long leaves its rounding behind
        for name, direction in self._direction.items():
            self.layers[name].move(direction, self.size)


@method(
    "update",
    "gauss_newton",
    Settings,
    paper="2602.10568",
    needs={"retain"},
    recipes={"k-fade": "gradient_ascent+gauss_newton"},
    # steps over the whole forget set; the rate is the top of the paper's range and, under a KL budget, only a bound
    recommended={
        "steps": 5,
        "learning_rate": 1e-2,
        "batch_size": 1_000_000,
        "micro_batch_size": 8,
        "keep_update": True,
    },
    tiny=(
        {"cache": False},
        {"curvature": "ekfac", "layers": "all", "cache": False},
        {"budget": None, "damping": 1.0, "cache": False},
    ),
)
class GaussNewton(Update):
    settings: Settings
    measure: Callable[[], float] | None = None

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse fused experts that may move."""
        refuse_moving_experts(recipe, model, "Kronecker factors", "gauss_newton:layers=all")

    @staticmethod
    def check_shards(recipe: Recipe, model: nn.Module | None) -> None:
        """Refuse weights in shards: both Kronecker factors act on the whole gradient of a layer."""
        raise InputError(
            "gauss_newton needs the whole gradient of each layer, which no process has of weights in shards",
            "use --shard off, or an update by entries such as geometric or joint",
        )

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        """Fit the curvature of the weights as they are, and put the uphill step in AdamW's place."""
        if not rows.retain:
            raise InputError("gauss_newton needs retain rows", "give --retain (or --retain auto)")
        layers = linear_layers(loop.model.model, loop.parameters.values(), self.settings.layers)
        seed = stream_seed(loop.settings.seed, "rows of the curvature")
        chosen = some_of(len(rows.retain), self.settings.rows, seed)
        self.factors = self._factors(loop, layers, rows, chosen)
        warn_of_few_tokens(self.factors, layers)
        rate = loop.settings.learning_rate
        self.optimizer = Uphill(layers, self.factors, self.settings.damping, rate)
        loop.optimizer = self.optimizer  # the loop's own is AdamW
        if self.settings.budget is not None:
            some = chosen[:: -(-len(chosen) // ROWS_MEASURED)]
            self.measure = kl_from_here(loop.model, retain_batches(rows, some))

    def _factors(self, loop: Loop, layers: Mapping[str, Linear], rows: Rows, chosen: Sequence[int]) -> Factors:
        def make() -> Factors:
            batches = retain_batches(rows, chosen)
            seed = loop.settings.seed
            return fit(
                layers,
                lambda: sampled_passes(loop.model, batches, seed, loop.autocast),
                self.settings.curvature,
                total=len(chosen),
            )

        if not self.settings.cache or self.settings.curvature == "identity":
            return make()
        facts = {
            "weights": loop.model.parameters_hash(),
            "layers": {name: layer.shape for name, layer in layers.items()},
            "rows": [[rows.retain[i].ids, rows.retain[i].start] for i in chosen],
            "numbers": [len(rows.forget) + i for i in chosen],
            "how": [self.settings.curvature, loop.settings.seed, loop.precision, loop.model.device.type],
        }
        return cached(facts, make, str(loop.model.device))

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        metrics = accumulate(loop, objective, [pair.only_forget() for pair in pairs])
        limit = self._limit(loop)
        self.optimizer.limit = limit
        self.optimizer.step()
        if limit is not None and self.measure is not None:
            before = loop.history[-1].get("retain_kl", 0.0) if loop.history else 0.0
            metrics["retain_kl"] = self._within(limit, before, self.measure)
        return metrics | {"predicted_kl": self.optimizer.predicted_kl, "step_size": self.optimizer.size}

    def _limit(self, loop: Loop) -> float | None:
        """The largest KL after this step: √KL is about the distance from the start, and grows evenly."""
        budget = self.settings.budget
        return None if budget is None else budget * ((loop.step + 1) / loop.total) ** 2

    def _within(self, limit: float, before: float, measure: Callable[[], float]) -> float:
        """Shorten the step that was taken until the measured KL is within the limit; returns that KL."""
        share = 1.0
        for tries in range(1, TRIES + 1):
            measured = measure()
            if measured <= limit:
                return measured
            share = shortened(share, before, measured, limit, tries)
            self.optimizer.take(share)
        self.optimizer.take(0.0)
        return measure()


def retain_batches(rows: Rows, chosen: Sequence[int]) -> list[Batch]:
    """Batches of the chosen retain rows, sorted by length."""
    groups = by_length([len(rows.retain[i].ids) for i in chosen], ROWS_AT_ONCE)
    return [rows.retain_batch([chosen[i] for i in group]) for group in groups]


def kl_from_here(model: LanguageModel, batches: Sequence[Batch]) -> Callable[[], float]:
    """Make a function that measures KL(p_now || p_later) at the rows' answers, in nats per predicted token."""
    reference = Reference()
    for batch in batches:
        reference.keep(model, [row_of(batch, i) for i in range(len(batch))])
    return partial(mean_kl, model, reference, batches)


def row_of(batch: Batch, i: int) -> Batch:
    """One row of a batch by itself, without padding."""
    length = int(batch.attention_mask[i].sum())
    part = slice(i, i + 1)
    return Batch(
        batch.input_ids[part, :length],
        batch.labels[part, :length],
        batch.attention_mask[part, :length],
        batch.index[part],
        batch.value_mask[part, :length],
    )


@torch.no_grad()
def mean_kl(model: LanguageModel, reference: Reference, batches: Sequence[Batch]) -> float:
    """KL(reference || model), nats per predicted token, over all answers of the batches."""
    total, count = 0.0, 0
    for batch in batches:
        before, after = (torch.log_softmax(x, -1) for x in (reference.logits(batch), score(model, batch).logits))
        total += float(torch.nn.functional.kl_div(after, before, log_target=True, reduction="sum"))
        count += len(before)
    return total / max(count, 1)
