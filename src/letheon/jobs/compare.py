"""`letheon compare`: check what can be checked before a model is loaded, then run the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.audit.measuring.proxy import check_reference, resolve_reference
from letheon.audit.verdict import load_profile
from letheon.compare.record import Comparison
from letheon.compare.run import compare, seconds_of
from letheon.core.atomic import check_writable
from letheon.core.model.models import check_loadable
from letheon.core.parallel import ALONE, Parallel
from letheon.forget.method_lists import read_methods, split_methods
from letheon.forget.request import Request
from letheon.forget.run import check, check_model
from letheon.forget.settings import resolve
from letheon.jobs.options import AuditCriteria, Machine, RequestFiles


@dataclass(frozen=True)
class CompareJob:
    """A comparison as the command line asks for it.

    Attributes:
        methods: methods, separated by commas.
        budget: time for all runs together, such as 20m.
        training: fields of `ForgetSettings` and `TrainSettings` that were given, for every run.
    """

    model: str
    methods: str
    rows: RequestFiles
    budget: str = "20m"
    training: Mapping[str, Any] = field(default_factory=dict)
    criteria: AuditCriteria = field(default_factory=AuditCriteria)
    out: Path = Path("compare")
    machine: Machine = field(default_factory=Machine)
    parallel: Parallel = ALONE

    @cached_property
    def request(self) -> Request:
        """The request, read and checked."""
        return self.rows.read()

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        request, criteria = self.request, self.criteria
        recipes = read_methods(split_methods(self.methods), request)
        seconds_of(self.budget)
        check_writable(self.out)
        check_loadable(self.model)
        check_reference(criteria.reference, request)
        load_profile(criteria.profile)
        rates = {}
        for name, recipe in recipes.items():
            settings, training = resolve(recipe, None, None, self.training)
            check(recipe, request, settings.stop)
            check_model(recipe, self.model, training.attention)
            rates[name] = training.learning_rate
        return {
            "model": self.model,
            "rows": {"forget": len(request.forget), "retain": len(request.retain)},
            "first learning rates": rates,
            "reference": criteria.reference or None,
            "profile": criteria.profile,
            "out": str(self.out),
        }

    def work(self) -> Comparison:
        """Check, run the methods, and write the comparison."""
        self.plan()
        machine, request = self.machine, self.request
        reference = resolve_reference(self.criteria.reference, request, seed=machine.seed, device=machine.device)
        return compare(
            self.model,
            request,
            split_methods(self.methods),
            out=self.out,
            budget=seconds_of(self.budget),
            reference=reference,
            profile=self.criteria.profile,
            seed=machine.seed,
            device=machine.device,
            parallel=self.parallel,
            **self.training,
        )
