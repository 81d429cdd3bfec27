"""MLP: the matrices of every block outside its attention move; norms, biases, embeddings and attention stay.

Source:  ours. Attention's matrices cost most of the general text that a deletion loses and forget next to nothing
         (`docs/decisions/0004-alternates.md`); that recall of facts runs through MLPs is ROME's finding, arXiv
         2202.05262.
Differs: an adapter is merged into the weights first. Attention is what takes the attention mask, a recurrence too;
         blocks that are nothing else (Mamba) move in all their matrices, as do those where nothing takes it (RWKV). Of
         a mixture the experts move, and its router where that is a linear layer.
"""

from __future__ import annotations

import inspect
from typing import ClassVar

from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, fused_experts, is_matrix
from letheon.core.registry import NoSettings, method
from letheon.forget.parts import Scope
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request


@method("scope", "mlp", NoSettings)
class Mlp(Scope):
    reads_weights: ClassVar[bool] = False

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse a model whose blocks have no matrix."""
        if not weights(model):
            raise InputError(f"the blocks of {type(model).__name__} have no matrix", "use @everything")

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        return weights(model.model)


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices of all blocks outside their attention, and fused experts, by name."""
    stack = blocks(model)
    mixing = {id(parameter) for block in stack for module in _mixers(block) for parameter in module.parameters()}
    matrices = {id(module.weight) for block in stack for module in block.modules() if is_matrix(module)}
    inside = matrices.union(map(id, fused_experts(model).values()))
    moving = (inside - mixing) or matrices
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in moving}


def _mixers(block: nn.Module) -> list[nn.Module]:
    """The innermost modules within a block that take the attention mask."""
    takers = [module for module in block.modules() if module is not block and _takes_mask(module)]
    return [one for one in takers if not any(other in takers for other in one.modules() if other is not one)]


def _takes_mask(module: nn.Module) -> bool:
    return "attention_mask" in inspect.signature(module.forward).parameters
