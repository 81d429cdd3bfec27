"""`letheon baselines`: check, and measure the baselines that leave the weights as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable, load
from letheon.core.model.structure import structure_of
from letheon.forget.baselines import Behaviour, check_layer, check_rows, measure_baselines
from letheon.forget.request import Request
from letheon.jobs.options import Machine, RequestFiles


@dataclass(frozen=True)
class BaselineOptions:
    """The baselines.

    Attributes:
        others: retain rows that the context shows with their true answers.
        layer: the layer whose output loses the concept (LEACE); -1 takes the middle one.
        max_new_tokens: longest answer in tokens.
    """

    others: int = 4
    layer: int = -1
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if self.others < 0 or self.max_new_tokens < 1:
            problem = f"--others {self.others}, --max-new-tokens {self.max_new_tokens}"
            raise InputError(problem, "use 0 or more rows, and 1 token or more")


@dataclass(frozen=True)
class BaselinesJob:
    """The baselines on one request, as the command line asks for them."""

    model: str
    rows: RequestFiles
    options: BaselineOptions = field(default_factory=BaselineOptions)
    machine: Machine = field(default_factory=Machine)

    @cached_property
    def request(self) -> Request:
        """The request, read and checked."""
        return self.rows.read()

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        check_rows(self.request)
        check_loadable(self.model)
        if self.options.layer != -1:
            check_layer(self.options.layer, structure_of(self.model) or load(self.model).base())
        rows = {"forget": len(self.request.forget), "retain": len(self.request.retain)}
        return {"model": self.model, "rows": rows, "baselines": ["in-context", "guardrail", "leace"]}

    def work(self) -> list[Behaviour]:
        """Measure the model as it is and behind every baseline."""
        self.plan()
        given = self.options
        return measure_baselines(
            load(self.model, device=self.machine.device),
            self.request,
            others=given.others,
            layer=None if given.layer == -1 else given.layer,
            max_new_tokens=given.max_new_tokens,
            seed=self.machine.seed,
        )
