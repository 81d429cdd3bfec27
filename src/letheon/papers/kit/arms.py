"""Forgetting runs of several recipes from one taught model, measured along their steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.memorisation import extraction_strength
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.papers.common.small_llama import copy_of, scored
from letheon.papers.outcome import Scale

Measure = Callable[[LanguageModel], dict[str, float]]


class Taught(NamedTuple):
    """A model before forgetting, the request, and the measurements (name -> number) that are taken of each run."""

    model: LanguageModel
    request: Request
    measure: Measure

    def copied(self) -> Taught:
        """The same with a copy of the model, which a run may change."""
        return self._replace(model=copy_of(self.model))


@dataclass(frozen=True)
class Arm:
    """The settings of one run.

    Attributes:
        recipe: a recipe of `letheon.forget`.
        rate: learning rate.
        steps: optimizer steps.
        batch_size: forget rows per step.
        every: steps between two measurements, the first of which is taken before the first step.
        at: the steps after which to measure, instead (0: before the first).
    """

    recipe: str | Recipe
    rate: float
    steps: int
    batch_size: int
    every: int = 1
    at: tuple[int, ...] = ()

    def measures(self, step: int) -> bool:
        """Whether a measurement is taken after this number of steps."""
        return step in self.at if self.at else step % self.every == 0


@dataclass
class Trajectory:
    """The course of one run.

    Attributes:
        points: measurements along the run, with the number of steps taken as `step`.
        history: the method's own metrics, one dictionary per step.
        moved: largest absolute change of a weight.
        table: how the scope chose the weights, where it says so.
    """

    points: list[dict[str, float]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    moved: float = 0.0
    table: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, float]:
        """The last measurements."""
        return self.points[-1]

    def column(self, name: str) -> list[float]:
        """One measurement along the run."""
        return [point[name] for point in self.points]

    def metric(self, name: str) -> list[float]:
        """One of the method's metrics, step by step."""
        return [metrics[name] for metrics in self.history]

    def after(self, step: int, name: str) -> float:
        """A measurement after a number of steps at which one was taken."""
        return next(point[name] for point in self.points if point["step"] == step)


def follow(
    taught: Taught, arm: Arm, seed: int, *, until: Callable[[dict[str, float]], bool] | None = None
) -> Trajectory:
    """Run a recipe on the taught model, which is changed in place, and measure along the way.

    Args:
        until: given the newest measurements, whether the run ends there.
    """
    run = Trajectory([{"step": 0, **taught.measure(taught.model)}] if arm.measures(0) else [])

    def measure(model: LanguageModel, step: int) -> str | None:
        if not arm.measures(step):
            return None
        run.points.append({"step": step, **taught.measure(model)})
        return "the end of the measurements is reached" if until and until(run.last) else None

    result = forget(
        taught.model,
        taught.request,
        arm.recipe,
        on_step=measure,
        collapse=False,
        steps=arm.steps,
        learning_rate=arm.rate,
        batch_size=arm.batch_size,
        precision="float32",
        seed=seed,
        device=str(taught.model.device),
    )
    run.history, run.moved, run.table = result.outcome.history, result.moved, result.table
    return run


@dataclass(frozen=True)
class Arms:
    """Recipes that are run from the same model, with the same rows, batches, and number of steps.

    Attributes:
        recipes: name of the arm -> recipe.
        rate: learning rate of every arm that `rates` does not name.
        steps, batch_size, every, at: as in `Arm`.
        rates: learning rates of single arms.
    """

    recipes: Mapping[str, str | Recipe]
    rate: float
    steps: int
    batch_size: int
    every: int = 1
    at: tuple[int, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)

    def replace(self, **changes: Any) -> Arms:
        """The same arms with other settings."""
        return dataclasses.replace(self, **changes)

    def at_scale(self, scale: Scale, full: Arms) -> Arms:
        """These arms at the fast scale, the others at the full one."""
        return full if scale.name == "full" else self

    def arms(self) -> dict[str, Arm]:
        """Every arm by name."""
        shared = (self.steps, self.batch_size, self.every, self.at)
        return {name: Arm(recipe, self.rates.get(name, self.rate), *shared) for name, recipe in self.recipes.items()}

    def run(self, taught: Taught, seed: int) -> dict[str, Trajectory]:
        """Every arm from a copy of the taught model."""
        return {name: follow(taught.copied(), arm, seed) for name, arm in self.arms().items()}


def memory_of(sets: Mapping[str, Sequence[Example]]) -> Measure:
    """A measure of each set's answers: mean probability and extraction strength, `NAME_probability` and `NAME_es`."""

    def measure(model: LanguageModel) -> dict[str, float]:
        measured = {}
        for name, rows in sets.items():
            answers = scored(model, rows)
            measured[f"{name}_probability"] = float(np.mean([answer.probability for answer in answers]))
            measured[f"{name}_es"] = float(np.mean([extraction_strength(answer.correct) or 0.0 for answer in answers]))
        return measured

    return measure
