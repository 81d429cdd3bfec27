"""Mixtures of experts, whose fused weights [experts, rows, columns] not every method knows how to move."""

from __future__ import annotations

from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.sites import fused_experts
from letheon.forget.recipe import Recipe


def refuse_moving_experts(recipe: Recipe, model: nn.Module, thing: str, update: str) -> None:
    """Refuse a mixture's fused experts where the recipe's scope may move them (`InputError`).

    Args:
        thing: what the update would need of each matrix.
        update: the update to write beside a scope of attention alone.
    """
    scope = recipe.scope.make()
    if any(scope.may_move(name) for name in fused_experts(model)):
        raise InputError(
            f"{recipe.update.method.name}: the experts of this mixture are fused, and have no {thing}",
            f"let attention alone move: {recipe.objective}+{update}@layers=0-:parameters=attn",
        )
