"""A forgetting run watched from step to step: what is forgotten and kept, and where each step really goes.

The run is `letheon.forget`'s own; the watcher sits around its update. After every optimizer step it compares the change
of the weights with the gradient of the retain loss on that step's retain rows, so momentum, decay and clipping count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.memorisation import extraction_strength
from letheon.core.training.gradients import Vector, dot, norm
from letheon.core.training.loop import Loop
from letheon.forget.parts import Objective, Pair, Rows, Scope, Update
from letheon.forget.recipe import Part, Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.papers.common.tofu_mini import copy_of

Measure = Callable[[LanguageModel], dict[str, float]]


class Watched(NamedTuple):
    """A run: the method's own metrics at each step, and measurements before the first step and after every few."""

    history: list[dict[str, float]]
    points: list[dict[str, float]]

    def column(self, name: str) -> list[float]:
        """One measurement along the run."""
        return [point[name] for point in self.points]


def watched(
    model: LanguageModel, request: Request, method: str, measure: Measure, *, every: int = 1, **options: Any
) -> Watched:
    """Run a method on a copy of the model and measure every few steps.

    Args:
        measure: given the model, numbers by name.
        every: steps between two measurements.
        options: as `letheon.forget` takes them.
    """
    points = [measure(model)]

    def watch(now: LanguageModel, step: int) -> None:
        if step % every == 0:
            points.append(measure(now))

    result = forget(copy_of(model), request, method, on_step=watch, collapse=False, **options)
    return Watched(result.outcome.history, points)


@dataclasses.dataclass
class Trajectory:
    """What a run did.

    Attributes:
        points: measurements before the first step and after each one.
        cosines: of each step with the retain gradient, <g_r, Δθ> / (‖g_r‖ ‖Δθ‖): below 0 the retain loss falls.
    """

    points: list[dict[str, float]] = dataclasses.field(default_factory=list)
    cosines: list[float] = dataclasses.field(default_factory=list)

    def column(self, name: str) -> list[float]:
        """One measurement along the run."""
        return [point[name] for point in self.points]


def follow(
    model: LanguageModel, request: Request, method: str, measure: Measure, *, steps: int, **options: Any
) -> Trajectory:
    """Run a recipe on the model (changed in place) and watch every step.

    Args:
        measure: given the model, numbers by name.
        options: as `letheon.forget` takes them.
    """
    recipe, found = Recipe.parse(method), Trajectory()
    inner = recipe.update.method

    def around(settings: Any) -> _Watcher:
        return _Watcher(inner.factory(settings), measure, found)

    part = Part(dataclasses.replace(inner, factory=around), recipe.update.settings)
    forget(model, request, dataclasses.replace(recipe, update=part), steps=steps, collapse=False, **options)
    found.points.append(measure(model))
    return found


class _Watcher(Update):
    """An update that does what another does and looks on."""

    def __init__(self, inner: Update, measure: Measure, found: Trajectory) -> None:
        self.inner, self.measure, self.found = inner, measure, found

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        self.inner.prepare(loop, objective, rows, scope)

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        self.found.points.append(self.measure(loop.model))
        before = [weight.detach().clone() for weight in loop.parameters.values()]
        gradient = retain_gradient(loop, pairs)
        metrics = self.inner.step(loop, objective, pairs)
        change = [weight.detach() - old for weight, old in zip(loop.parameters.values(), before, strict=True)]
        self.found.cosines.append(dot(gradient, change) / max(norm(gradient) * norm(change), 1e-30))
        return metrics

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.inner.load_state_dict(state)


def retain_gradient(loop: Loop, pairs: Sequence[Pair]) -> Vector:
    """Gradient of the retain answers' mean negative log-likelihood on a step's retain rows, before the step."""
    for pair in pairs:
        if pair.retain is not None:
            loss = -pair.retain.mean(score(loop.model, pair.retain).logp, "tokens")
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    return loop.take_gradients()


def memory_of(sets: Mapping[str, Sequence[Example]]) -> Measure:
    """A measure: mean probability and extraction strength of each set's answers, as `NAME_probability`, `NAME_es`."""

    def measure(model: LanguageModel) -> dict[str, float]:
        found = {}
        for name, rows in sets.items():
            answers = [scores[0] for scores in score_answers(model, [(row.prompt, [row.answer]) for row in rows])]
            found[f"{name}_probability"] = float(np.mean([answer.probability for answer in answers]))
            found[f"{name}_es"] = float(np.mean([extraction_strength(answer.correct) or 0.0 for answer in answers]))
        return found

    return measure


def first_crossing(levels: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """`values` where `levels` first falls to `level`, linear between two points; None if it never does."""
    for i, now in enumerate(levels):
        if now > level:
            continue
        if i == 0 or levels[i - 1] == now:
            return values[i]
        share = (levels[i - 1] - level) / (levels[i - 1] - now)
        return values[i - 1] + share * (values[i] - values[i - 1])
    return None
