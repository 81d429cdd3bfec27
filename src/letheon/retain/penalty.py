"""The quadratic penalty of EWC and SI: c/2 · Σ A (θ - θ*)², with one importance A per weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def add_penalty_gradient(
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor],
    importance: Sequence[Tensor],
    anchor: Sequence[Tensor],
    strength: float,
) -> None:
    """Add c A (θ - θ*), the gradient of c/2 · Σ A (θ - θ*)², to the gradients in place."""
    distance = torch._foreach_sub(list(weights), list(anchor))
    torch._foreach_addcmul_(list(gradients), list(importance), list(distance), value=strength)
