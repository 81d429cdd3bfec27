"""`letheon measure`: read the items, check, load the model or reach the endpoint, evaluate, write; compare two runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letheon.core.errors import InputError
from letheon.jobs.options import Machine

if TYPE_CHECKING:
    from letheon.measure.asking.endpoint import Endpoint
    from letheon.measure.benchmark import Measure
    from letheon.measure.measurement import Measurement
    from letheon.measure.run import ScoreDifference


@dataclass(frozen=True)
class MeasureData:
    """The items of a measure.

    Attributes:
        data: file or folder of the items; left out, the measure's own items, where it has some.
        limit: number of items, drawn under the seed; 0 takes all.
        options: a setting of the measure, such as rating=FAM_Glas (NAME=VALUE). May be given several times.
    """

    data: str = ""
    limit: int = 0
    options: list[str] = field(default_factory=list, metadata={"spellings": ("--set",)})

    def settings(self) -> dict[str, str]:
        """Return the settings by name.

        Raises:
            InputError: one has no `=`.
        """
        pairs = [text.partition("=") for text in self.options]
        for name, mark, _ in pairs:
            if not mark or not name.strip():
                raise InputError(f"--set {name}", "write --set NAME=VALUE")
        return {name.strip().replace("-", "_"): value for name, _, value in pairs}

    def measure(self, name: str, seed: int) -> Measure[Any]:
        """Read a measure with its items."""
        from letheon.measure.run import read_measure

        return read_measure(name, self.data, limit=self.limit, seed=seed, **self.settings())


@dataclass(frozen=True)
class EndpointOptions:
    """A model behind an OpenAI-compatible endpoint, instead of MODEL.

    Attributes:
        endpoint: address such as http://127.0.0.1:8000/v1; OPENAI_API_KEY is sent with each request if it is set.
        endpoint_model: the model's name at the endpoint.
        concurrency: requests that are open at once.
        retries: further attempts after a timeout, a rate limit or an unreadable answer.
        timeout: seconds until an attempt is given up.
        cache: folder of the stored answers.
    """

    endpoint: str = ""
    endpoint_model: str = field(default="", metadata={"spellings": ("--endpoint-model", "--model")})
    concurrency: int = 4
    retries: int = 5
    timeout: float = 60.0
    cache: Path = Path("answers")

    def made(self) -> Endpoint:
        """Return the endpoint.

        Raises:
            InputError: the address or a number cannot be used.
        """
        from letheon.measure.asking.endpoint import Endpoint

        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise InputError("--concurrency below 1, --retries below 0 or --timeout of 0", "use larger numbers")
        return Endpoint(self.endpoint, self.endpoint_model, self.cache, self.concurrency, self.retries, self.timeout)


@dataclass(frozen=True)
class MeasureJob:
    """A measurement as the command line asks for it.

    Attributes:
        models: one model; none where an endpoint is given.
        out: folder of the files; None writes none.
    """

    name: str
    models: tuple[str, ...] = ()
    data: MeasureData = field(default_factory=MeasureData)
    endpoint: EndpointOptions = field(default_factory=EndpointOptions)
    out: Path | None = None
    machine: Machine = field(default_factory=Machine)

    @cached_property
    def checked(self) -> Measure[Any]:
        """The measure, with its items read and everything checked that needs no model."""
        from letheon.core.model.models import check_loadable

        if len(self.models) + bool(self.endpoint.endpoint) != 1:
            given = ", ".join((*self.models, *filter(None, [self.endpoint.endpoint]))) or "none"
            raise InputError(
                f"one model is measured at a time; given: {given}", "give MODEL, or --endpoint and --model"
            )
        made = self.data.measure(self.name, self.machine.seed)
        if self.endpoint.endpoint:
            self.endpoint.made()
        elif self.name != "memorization":
            check_loadable(self.models[0])
        return made

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        model = self.endpoint.endpoint or self.models
        return {"measure": self.name, "model": str(model), **self.checked.config(), "out": str(self.out)}

    def work(self) -> Measurement:
        """Measure the model and write its page."""
        from letheon.core.model.models import load
        from letheon.measure.asking.responder import LocalResponder
        from letheon.measure.run import measure

        made = self.checked
        if self.name == "memorization":
            from letheon.measure.memorization.learners import read_learner

            asked: Any = read_learner(self.models[0])
        elif self.endpoint.endpoint:
            asked = self.endpoint.made()
        else:
            asked = LocalResponder(load(self.models[0], device=self.machine.device))
        return measure(made, asked, asked.facts(), out=self.out)


@dataclass(frozen=True)
class ExportTasksJob:
    """A measure's items as tasks of lm-evaluation-harness, in a folder."""

    name: str
    data: MeasureData
    folder: Path
    seed: int = 0

    def plan(self) -> dict[str, Any]:
        """Read the items and return what would be written."""
        return {"measure": self.name, **self.data.measure(self.name, self.seed).config(), "tasks": str(self.folder)}

    def work(self) -> list[str]:
        """Write the tasks and return their names."""
        from letheon.measure.lm_eval_tasks import export_tasks

        return export_tasks(self.data.measure(self.name, self.seed), self.folder)


@dataclass(frozen=True)
class CompareRunsJob:
    """Two measurements, to be compared item by item."""

    folders: tuple[str, ...]

    def plan(self) -> dict[str, Any]:
        """Check that two folders are given and return them."""
        if len(self.folders) != 2:
            raise InputError(f"compare got {len(self.folders)} folders", "give two: letheon measure compare RUN RUN")
        return {"compare": list(self.folders)}

    def work(self) -> list[ScoreDifference]:
        """Compare the runs."""
        from letheon.measure.run import compare_runs

        self.plan()
        first, second = map(Path, self.folders)
        return compare_runs(first, second)
