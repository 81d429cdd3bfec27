"""Layers: the weights of some blocks move, perhaps only those whose names contain a text.

`layers=5-7`, `layers=20-` (to the last), `layers=3`, `layers=5-7:parameters=down_proj`. An adapter is merged into the
weights first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.registry import method
from letheon.forget.parts import Scope
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
    settings: Settings

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        stack = blocks(model.base())
        first, _, last = self.settings.layers.partition("-")
        end = int(last) if last else (len(stack) - 1 if "-" in self.settings.layers else int(first))
        if int(first) > end or end >= len(stack):
            raise InputError(
                f"layers {self.settings.layers} asked for, the model has 0-{len(stack) - 1}",
                "choose among them",
            )
        inside = {id(p) for block in list(stack)[int(first) : end + 1] for p in block.parameters()}
        chosen = {
            name: parameter
            for name, parameter in model.model.named_parameters()
            if id(parameter) in inside and self.settings.parameters in name
        }
        if not chosen:
            raise InputError(
                f"no weight of layers {self.settings.layers} has {self.settings.parameters!r} in its name",
                "see the names with model.named_parameters()",
            )
        return chosen
