"""`letheon bench`: read the data, check, train, unlearn, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.core.parallel import ALONE, Parallel
from letheon.forget.method_lists import split_methods
from letheon.jobs.options import BenchData, BenchModels, Machine
from letheon.measure.bench import BenchPlan, Teaching, bench, plan_bench, read_benchmark
from letheon.measure.benchmark import Bench


@dataclass(frozen=True)
class BenchJob:
    """A benchmark as the command line asks for it.

    Attributes:
        methods: methods, separated by commas; empty measures target and reference only.
        teaching: fields of `Teaching` that were given.
        training: fields of `ForgetSettings` and `TrainSettings` that were given, for every method.
    """

    benchmark: str
    data: BenchData = field(default_factory=BenchData)
    models: BenchModels = field(default_factory=BenchModels)
    methods: str = ""
    teaching: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    out: Path = Path("bench")
    machine: Machine = field(default_factory=Machine)
    parallel: Parallel = ALONE

    @cached_property
    def checked(self) -> BenchPlan:
        """The plan of the bench, with its data read and everything checked that needs no model."""
        data, models, seed = self.data, self.models, self.machine.seed
        own = {name: value for name, value in {"peer": data.peer, "corpus": data.corpus}.items() if value}
        read: dict[str, Any] = {"name": self.benchmark, "source": data.data, "split": data.split, **own}
        read |= {"rows": data.rows, "seed": seed}
        return plan_bench(
            read_benchmark(**read),
            split_methods(self.methods),
            out=self.out,
            model=models.model,
            target=models.target,
            reference=models.reference,
            train=models.train,
            teaching=Teaching(**self.teaching),
            seed=seed,
            data=read,
            **self.training,
        )

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        return {**self.checked.config(), "methods": list(self.checked.methods), "out": str(self.out)}

    def work(self) -> Bench:
        """Run the bench and write its page."""
        return bench(self.checked, device=self.machine.device, parallel=self.parallel)
