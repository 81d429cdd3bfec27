"""Joint: one gradient of the weighted sum, one optimizer step; what every unlearning repository does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from letheon.core.registry import method
from letheon.forget.parts import Objective, Pair, Update, mean_metrics

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop


@dataclass(frozen=True)
class Settings:
    pass


@method("update", "joint", Settings)
class Joint(Update):
    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        watches = []
        for pair in pairs:
            with loop.autocast():
                terms = objective.terms(loop.model, pair)
                total = terms.total()
            if total is not None:
                total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                watches.append({**terms.metrics, "loss": float(total.detach())})
        metrics = loop.reduce_metrics(mean_metrics(watches))
        loop.sum_gradients()
        metrics["gradient_norm"] = loop.clip()
        loop.optimizer.step()
        return metrics
