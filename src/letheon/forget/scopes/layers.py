"""Layers: the weights of some blocks move, perhaps only those whose names contain a text.

`layers=5-7`, `layers=20-` (to the last), `layers=3`, `layers=5-7:parameters=down_proj`. An adapter is merged into the
weights first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.registry import method
from letheon.forget.parts import Scope
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings:
    layers: str = "0-"  # first-last, counted from 0
    parameters: str = ""  # only names that contain this

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+(-\d*)?", self.layers):
            raise InputError(
                f"layers: found {self.layers!r}", "write one layer (7), a range (5-7) or an open range (20-)"
            )


@method("scope", "layers", Settings, tiny=({"layers": "2-"}, {"layers": "1-2", "parameters": "down_proj"}))
class Layers(Scope):
    reads_weights: ClassVar[bool] = False

    settings: Settings

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse layers or names that the model does not have."""
        chosen_weights(model, recipe.scope.settings)

    def may_move(self, name: str) -> bool:
        return self.settings.parameters in name

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        return chosen_weights(model.model, self.settings)


def chosen_weights(model: nn.Module, settings: Settings) -> dict[str, nn.Parameter]:
    """The parameters of the layers whose names contain the text.

    Raises:
        InputError: no such layer, or no such name in them.
    """
    stack = blocks(model)
    first, _, last = settings.layers.partition("-")
    end = int(last) if last else (len(stack) - 1 if "-" in settings.layers else int(first))
    if int(first) > end or end >= len(stack):
        raise InputError(
            f"layers {settings.layers} asked for, the model has 0-{len(stack) - 1}",
            "choose among them",
        )
    inside = {id(p) for block in list(stack)[int(first) : end + 1] for p in block.parameters()}
    chosen = {
        name: parameter
        for name, parameter in model.named_parameters()
        if id(parameter) in inside and settings.parameters in name
    }
    if not chosen:
        raise InputError(
            f"no weight of layers {settings.layers} has {settings.parameters!r} in its name",
            "see the names with model.named_parameters()",
        )
    return chosen
