"""PCGrad as a baseline: the forget gradient without its part against the retain gradient, plus the retain gradient.

Source:  Gradient Surgery for Multi-Task Learning, arXiv 2001.06782; here the retain gradient is protected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from letheon.forget.parts import Objective, Pair, Update
from letheon.forget.recipe import Part, Recipe
from letheon.forget.separate_gradients import descend, separate_gradients
from letheon.forget.updates.by_group import reconciled

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop


class PCGrad(Update):
    """One optimizer step of the reconciled forget gradient and the retain gradient, over all weights together."""

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        gradients = separate_gradients(loop, objective, pairs)
        forget = reconciled(gradients.forget, gradients.retain)
        descend(loop, [f + r for f, r in zip(forget, gradients.retain, strict=True)])
        return gradients.metrics


def with_pcgrad(recipe: str) -> Recipe:
    """The recipe with PCGrad in place of its update."""
    parsed = Recipe.parse(recipe)
    method = dataclasses.replace(parsed.update.method, factory=lambda settings: PCGrad(settings))
    return dataclasses.replace(parsed, update=Part(method, parsed.update.settings))
