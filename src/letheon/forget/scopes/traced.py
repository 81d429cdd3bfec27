"""Traced: the MLP weights of a window of layers move, the one that carries most of the forget rows' recall.

Paper:   KUDA, arXiv 2602.19275: layers by the causal effect of their MLPs on the forget prompts and a sliding window;
         tracing as in ROME, arXiv 2202.05262 (`letheon.probe.tracing`).
Inferred: a window of 3 layers, and that the MLP's last matrix is what moves (`matrices=all` for the whole MLP); ROME's
         noise of three standard deviations. A row's `subject` is corrupted, or without one its whole prompt.
Differs: at most `rows` forget rows are traced, evenly spaced, with `draws` of noise each (ROME: 10 draws).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, down_projection, has_down_projection, mlp
from letheon.core.registry import Checked, method
from letheon.forget.parts import Scope
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.probe.tracing import Trace, fact_of, select_window, trace_mlps

logger = logging.getLogger("letheon")


@dataclass(frozen=True)
class Settings(Checked, positive=("width", "noise", "rows", "draws")):
    width: int = 3  # RMU's number of layers [inferred]
    matrices: Literal["down", "all"] = "down"
    noise: float = 3.0  # ROME
    rows: int = 16
    draws: int = 3
    seed: int = 0  # of the noise; a model is traced once, whatever the run's seed


@method("scope", "traced", Settings, paper="2602.19275", wants={"subject"}, tiny=({}, {"matrices": "all"}))
class Traced(Scope):
    """Attributes:
    window: the layers that move, once selected.
    table: for every layer its mean effect over the traced rows, and whether it is in the window.
    """

    settings: Settings
    window = range(0)

    @staticmethod
    def check_model(recipe: Recipe, model: nn.Module) -> None:
        """Refuse a window wider than the model, and a mixture's missing last matrix."""
        settings, stack = recipe.scope.settings, list(blocks(model))
        if settings.width > len(stack):
            raise InputError(
                f"traced: a window of {settings.width} layers, the model has {len(stack)}",
                f"write traced:width={max(1, len(stack) // 4)}",
            )
        if settings.matrices == "down" and not all(map(has_down_projection, stack)):
            raise InputError(
                "traced: a mixture of experts has no single last matrix",
                "let the whole mixture move: traced:matrices=all",
            )

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        model.merge_adapter()
        stack = list(blocks(model.base()))
        effect = self.trace(model, request).effect.mean(0)
        self.window = select_window(effect, self.settings.width)
        self.table = [
            {"layer": layer, "effect": value, "moves": layer in self.window}
            for layer, value in enumerate(effect.tolist())
        ]
        logger.info("traced: layers %d-%d move; effects %s", self.window[0], self.window[-1], _words(effect))
        chosen = {id(p) for layer in self.window for p in self._weights(stack[layer])}
        return {name: parameter for name, parameter in model.model.named_parameters() if id(parameter) in chosen}

    def _weights(self, block: nn.Module) -> list[nn.Parameter]:
        if self.settings.matrices == "all":
            return list(mlp(block).parameters())
        return [down_projection(block).get_parameter("weight")]

    def trace(self, model: LanguageModel, request: Request) -> Trace:
        """Trace the causal effects that decide the window."""
        settings, total = self.settings, len(request.forget)
        count = min(settings.rows, total)
        rows = [request.forget[i * total // count] for i in range(count)]
        if any(row.subject is None for row in rows):
            logger.info("traced: some forget rows name no subject: their whole prompts are corrupted")
        facts = [fact_of(model, row) for row in rows]
        return trace_mlps(model, facts, noise=settings.noise, draws=settings.draws, seed=settings.seed)


def _words(effect: Tensor) -> str:
    return " ".join(f"{value:.3f}" for value in effect.tolist())
