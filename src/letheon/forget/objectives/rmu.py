"""RMU: push the forget rows' hidden states at one layer towards a fixed random vector, hold the retain rows' in place.

Paper:   Li et al., The WMDP Benchmark, arXiv 2403.03218; as in open-unlearning (arXiv 2506.12618): the vector is
         uniform in [0, 1) and normalised, c = 2, L_r compares with the states before forgetting.
Differs: the layer, 7 of 32 in the paper, is taken at the same share of a model's depth; otherwise none in value.
         No layer above the one that is read is run, and the states before forgetting are computed once.
         `rmu@layers=5-7:parameters=down_proj` is the WMDP experiment's choice of weights; alone, all weights move.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.forget.kept_states import KeptStates, states_of_both
from letheon.forget.parts import Objective, Pair, PairIndices, Rows, Terms
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings:
    layer: int | None = None  # the block whose output is read; none takes the paper's share of the depth, 7 of 32
    coefficient: float = 2.0  # c; the class default there is 20, the WMDP paper's for Zephyr 6.5
    gamma: float = 1.0
    alpha: float = 1.0


def activation_loss(
    hidden: Float[Tensor, "rows length width"],
    target: Float[Tensor, "rows length width"] | Float[Tensor, " width"],
    mask: Bool[Tensor, "rows length"],
) -> Float[Tensor, " rows"]:
    """(1/n) Σ_t mask · mean_d (h − target)² per row, with n the row's masked tokens."""
    squared = ((hidden - target) ** 2).mean(-1) * mask
    return squared.sum(-1) / mask.sum(-1).clamp(min=1)


def control_vector(width: int, coefficient: float, seed: int) -> Float[Tensor, " width"]:
    """c·u/‖u‖ with u uniform in [0, 1): drawn once, the same at every step."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(width, generator=generator)
    return coefficient * u / u.norm()


def layer_to_read(many: int, layer: int | None) -> int:
    """The given layer, or 7/32 of the number of layers: the paper reads layer 7 of Zephyr's 32."""
    return round(7 / 32 * many) if layer is None else layer


@method("objective", "rmu", Settings, paper="2403.03218", needs={"retain", "reference"}, turns=False)
class RMU(Objective):
    settings: Settings

    @staticmethod
    def check_recipe(recipe: Recipe, request: Request | None) -> None:
        """Refuse a scope `layers` that begins above the layer that is read."""
        if recipe.scope.method.name != "layers":
            return
        first, read = int(recipe.scope.settings.layers.split("-")[0]), recipe.objective.settings.layer
        if read is not None and first > read:
            raise InputError(
                f"rmu reads layer {read}, which layers {first} and above cannot change",
                f"let layers up to {read} move, or read a later one: rmu:layer={first}",
            )

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse a layer that the model does not have, or that the scope cannot change."""
        many, settings = len(blocks(model)), recipe.objective.settings
        read = layer_to_read(many, settings.layer)
        if not 0 <= read < many:
            raise InputError(f"rmu: layer {read} asked for, the model has {many}", f"use 0 to {many - 1}")
        part = dataclasses.replace(recipe.objective, settings=dataclasses.replace(settings, layer=read))
        RMU.check_recipe(dataclasses.replace(recipe, objective=part), None)

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        self.before = KeptStates()
        self.layer = layer_to_read(len(blocks(model.base())), self.settings.layer)
        seed = stream_seed(rows.seed, "control vector")
        self.vector = control_vector(model.width, self.settings.coefficient, seed).to(model.device)
        self.before.record(model, rows.visited(plan)[1], self.layer)

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        terms, settings = Terms(), self.settings
        retain = pair.retain if settings.alpha else None
        forget_states, retain_states = states_of_both(model, pair.forget, retain, self.layer)
        if pair.forget is not None and forget_states is not None:
            loss = self._loss(forget_states, self.vector, pair.forget)
            terms.forget, terms.metrics["forget_loss"] = settings.gamma * loss, float(loss.detach())
        if retain is not None and retain_states is not None:
            loss = self._loss(retain_states, self.before.padded(retain), retain)
            terms.retain, terms.metrics["retain_loss"] = settings.alpha * loss, float(loss.detach())
        return terms

    def _loss(self, hidden: Tensor, target: Tensor, batch: Batch) -> Tensor:
        return batch.mean(activation_loss(hidden, target, batch.labels != -100), "rows")
