"""Everything: all weights move. An adapter is merged into the weights first."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from letheon.core.model.models import LanguageModel
from letheon.core.registry import method
from letheon.forget.parts import Scope
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings:
    pass


@method("scope", "everything", Settings)
class Everything(Scope):
    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        return dict(model.model.named_parameters())
