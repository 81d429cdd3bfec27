"""Targeted: only the attention and MLP weights of the layers that the forget rows depend on most may move.

A layer's effect is how far the forget loss moves while the layer is bypassed: it adds nothing and the residual stream
goes on. The k layers of the largest effect are chosen anew for every request. An adapter is merged into the weights
first.

Paper:   FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning, arXiv 2601.21682.
Differs: that the residual stream passes a masked layer is [inferred]; without it the early layers would always win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import bypass
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import attention, blocks, mlp
from letheon.core.registry import Checked, method
from letheon.core.rows.encoding import Encoded
from letheon.core.scoring.likelihood import score
from letheon.forget.parts import Scope
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings(Checked, positive=("k",)):
    k: int = 8  # of 32 layers; 6 to 9 are good in the paper's ablation over four models


@torch.no_grad()
def answer_losses(
    model: LanguageModel, rows: Sequence[Encoded]
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Negative log-likelihood of each row's answer, summed over its tokens (nats), and the number of tokens."""
    losses, tokens = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.float64)
    for chosen, batch in model.batches(rows, 16):
        scores = score(model, batch)
        losses[chosen] = -scores.sequence_logp().double().cpu()
        tokens[chosen] = torch.bincount(scores.row, minlength=len(chosen)).double().cpu()
    return losses, tokens


def layer_effects(model: LanguageModel, rows: Sequence[Encoded]) -> list[float]:
    """|L with layer l bypassed − L| for every layer, L the answers' mean negative log-likelihood (nats per token)."""

    def loss() -> float:
        losses, tokens = answer_losses(model, rows)
        return float(losses.sum() / tokens.sum())

    plain, effects = loss(), []
    for layer in range(len(blocks(model.base()))):
        with bypass(model.base(), layer):
            effects.append(abs(loss() - plain))
    return effects


def top_layers(effects: Sequence[float], k: int) -> list[int]:
    """The k layers with the largest effects, in ascending order; ties go to the lower layer."""
    return sorted(sorted(range(len(effects)), key=lambda layer: -effects[layer])[:k])


@method("scope", "targeted", Settings, paper="2601.21682", tiny={"k": 2})
class Targeted(Scope):
    """After `select`, `layers` holds the selected layers and `effects` every layer's effect."""

    settings: Settings
    layers: list[int]
    effects: list[float]

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse a model with fewer layers than requested."""
        layers, k = len(blocks(model)), recipe.scope.settings.k
        if k > layers:
            raise InputError(
                f"targeted: {k} layers asked for, the model has {layers}",
                f"a quarter of them is the paper's share: targeted:k={max(1, layers // 4)}",
            )

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        stack = blocks(model.base())
        self.effects = layer_effects(model, model.encoder().encode_all(request.forget, "forget row"))
        self.layers = top_layers(self.effects, self.settings.k)
        chosen = [part(stack[layer]) for layer in self.layers for part in (attention, mlp)]
        inside = {id(parameter) for module in chosen for parameter in module.parameters()}
        return {name: parameter for name, parameter in model.model.named_parameters() if id(parameter) in inside}
