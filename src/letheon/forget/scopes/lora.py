"""LoRA: low-rank adapters on the blocks' matrices move, everything else stays; the result is a PEFT adapter.

Its starting values are the same under every seed. A model that comes with an adapter keeps it: that adapter moves,
with its own rank.

Paper:   Hu et al., LoRA, arXiv 2106.09685, by the PEFT library.
Differs: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from letheon.core.model.adapters import ALL_LINEAR, attach_lora, target_modules
from letheon.core.model.models import LanguageModel
from letheon.core.registry import Checked, method
from letheon.forget.parts import Scope
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings(Checked, positive=("r", "alpha")):
    r: int = 8
    alpha: int = 16
    targets: str = ALL_LINEAR  # or queries-keys, or names separated by spaces
    experts: bool = True  # with all-linear, of a mixture: false adapts its attention alone


@method("scope", "lora", Settings, paper="2106.09685")
class LoRA(Scope):
    reads_weights: ClassVar[bool] = False

    settings: Settings

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse targets that the model's blocks do not have."""
        target_modules(model, recipe.scope.settings.targets, recipe.scope.settings.experts)

    def may_move(self, name: str) -> bool:
        return self.settings.experts and self.settings.targets == ALL_LINEAR

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        settings = self.settings
        return attach_lora(model, settings.r, settings.alpha, settings.targets, experts=settings.experts)
