"""Everything: all weights move. An adapter is merged into the weights first."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from letheon.core.model.models import LanguageModel
from letheon.core.registry import NoSettings, method
from letheon.forget.parts import Scope
from letheon.forget.request import Request


@method("scope", "everything", NoSettings)
class Everything(Scope):
    reads_weights: ClassVar[bool] = False

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        return dict(model.model.named_parameters())
