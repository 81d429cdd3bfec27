"""Joint: one gradient of the weighted sum, one optimizer step; what every unlearning repository does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from letheon.core.registry import NoSettings, method
from letheon.forget.parts import Objective, Pair, Update
from letheon.forget.separate_gradients import accumulate

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop


@method("update", "joint", NoSettings)
class Joint(Update):
    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        metrics = accumulate(loop, objective, pairs)
        metrics["gradient_norm"] = loop.clip()
        loop.optimizer.step()
        return metrics
