"""The direction of a run's real steps: the cosine of each change of the weights with the retain gradient.

The update of a recipe is wrapped. Weights are compared before and after the optimizer step, so momentum, decay and
clipping count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from letheon.core.scoring.likelihood import score
from letheon.core.training.gradients import Vector, dot, norm
from letheon.core.training.loop import Loop
from letheon.forget.parts import Objective, Pair, Rows, Scope, Update
from letheon.forget.recipe import Part, Recipe

METRIC = "retain_cosine"


def with_retain_cosine(recipe: str | Recipe) -> Recipe:
    """The recipe with a metric `retain_cosine` per step: <g_r, Δθ> / (‖g_r‖ ‖Δθ‖).

    g_r is the gradient of the retain loss on the step's retain rows: below 0 the step lowers that loss.
    """
    parsed = Recipe.parse(recipe) if isinstance(recipe, str) else recipe
    method = parsed.update.method

    def wrapped(settings: Any) -> Wrapped:
        return Wrapped(method.factory(settings))

    update = Part(dataclasses.replace(method, factory=wrapped), parsed.update.settings)
    return dataclasses.replace(parsed, update=update)


class Wrapped(Update):
    """An update that takes another update's steps and adds their cosine to the metrics."""

    def __init__(self, inner: Update) -> None:
        self.inner = inner

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        self.inner.prepare(loop, objective, rows, scope)

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        before = [weight.detach().clone() for weight in loop.parameters.values()]
        gradient = retain_gradient(loop, pairs)
        metrics = self.inner.step(loop, objective, pairs)
        change = [weight.detach() - old for weight, old in zip(loop.parameters.values(), before, strict=True)]
        return metrics | {METRIC: dot(gradient, change) / max(norm(gradient) * norm(change), 1e-30)}

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.inner.load_state_dict(state)


def retain_gradient(loop: Loop, pairs: Sequence[Pair]) -> Vector:
    """Gradient of the mean negative log-likelihood of a step's retain answers, before the step."""
    for pair in pairs:
        if pair.retain is not None:
            loss = -pair.retain.mean(score(loop.model, pair.retain).logp, "tokens")
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    return loop.take_gradients()
