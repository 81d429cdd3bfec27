"""A method under check: the recipe that it is checked in, and runs of it on the tiny model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from letheon.core.errors import LetheonError
from letheon.core.registry import Kind, find
from letheon.forget.recipe import MARKS, Recipe, StandaloneMethod, read_method
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.settings import Result
from letheon.testing.samples import sample_request

# The objective with which the other parts are composed: it has a reference, a retain term and row-wise sums.
OBJECTIVE = "npo"
STEPS = 3
TRAINING: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 4, "precision": "float32", "device": "cpu"}


class CheckFailed(LetheonError):
    """A method broke a promise that every method makes."""


def demand(holds: bool, problem: str, remedy: str = "") -> None:
    """Raise `CheckFailed` unless something holds."""
    if not holds:
        raise CheckFailed(problem, remedy)


class MethodTrial:
    """A method under check and the run that most checks look at; `start` names the model that it starts from."""

    def __init__(self, recipe: Recipe | StandaloneMethod, start: str) -> None:
        self.recipe, self.start = recipe, start

    def run(self, request: Request | None = None, **options: Any) -> Result:
        """Run the method on a fresh tiny model and the sample request, or another one."""
        given = {"steps": STEPS, **TRAINING, **options}
        return forget(self.start, request or sample_request(), self.recipe, **given)

    @cached_property
    def first(self) -> Result:
        """The run under seed 0: three steps, or one edit."""
        return self.run()


def recipe_of(name: str, kind: Kind, options: Mapping[str, Any]) -> Recipe | StandaloneMethod:
    """Compose a part with others to a recipe; an edit or a procedure is read as it is."""
    find(kind, name)
    part = with_options(name, options)
    mark = next((mark for mark, part_kind in MARKS.items() if part_kind == kind), None)
    if mark is None:
        return read_method(part)
    partner = getattr(find(kind, name).factory, "goes_with", "")  # a part that it requires
    if partner:
        partner = with_options(partner, find(MARKS[partner[0]], partner[1:]).tiny[0])
    return Recipe.parse(part if kind == "objective" else f"{OBJECTIVE}{mark}{part}{partner}")


def with_options(name: str, options: Mapping[str, Any]) -> str:
    """Write a part as its text: NAME:OPTION=VALUE,..."""
    given = ",".join(f"{option}={value}" for option, value in options.items())
    return f"{name}:{given}" if given else name
