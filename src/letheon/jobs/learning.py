"""What `letheon learn` and `compare-strategies` do: read, check, run, write the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.core.atomic import atomic_write_text
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable
from letheon.core.runs import Run
from letheon.forget.method_lists import split_methods
from letheon.retain import learn as learning
from letheon.retain.compare import compare_strategies
from letheon.retain.comparison import StrategyComparison
from letheon.retain.composition import read_strategy
from letheon.retain.learned import Learned
from letheon.retain.models import mlp_for
from letheon.retain.page import render_learning
from letheon.retain.settings import LearnSettings
from letheon.retain.stream import Stream
from letheon.retain.streams import read_stream


@dataclass(frozen=True)
class LearnJob:
    """A model's name, a stream's name, options as the command line has them."""

    model: str
    source: str
    options: dict[str, Any]
    device: str = "auto"

    @cached_property
    def stream(self) -> Stream:
        """The stream, read and checked."""
        if not self.source:
            raise InputError("no stream was given", "give --stream FILE.toml or --stream split-digits")
        return read_stream(self.source)

    @cached_property
    def settings(self) -> LearnSettings:
        """All options; the batch size is the model's kind's where none is given."""
        size = self.options["batch_size"] or (8 if self.stream.is_text else 32)
        return LearnSettings(**self.options | {"batch_size": size})

    def plan(self, strategies: list[str], out: Path) -> dict[str, Any]:
        """What would be done, after every check that needs no model."""
        if not self.model:
            raise InputError("no model was given", "write `letheon learn MODEL --stream ...`")
        texts = [read_strategy(text).text for text in strategies]
        if self._small:
            mlp_for(self.stream, self.model)
        else:
            check_loadable(self.model)
        return {
            "model": self.model,
            "stream": self.stream.name,
            "scenario": self.stream.scenario,
            "tasks": {task.name: f"{len(task.train)} rows, {len(task.test)} for tests" for task in self.stream},
            "strategies": texts,
            "epochs": self.settings.epochs,
            "out": str(out),
        }

    @property
    def _small(self) -> bool:
        return self.model.partition("=")[0] == "mlp"

    def learn(self, strategy: str, out: Path) -> Learned:
        """A new run."""
        self.plan([strategy], out)
        model = mlp_for(self.stream, self.model, self.settings.seed) if self._small else self.model
        result = learning.learn(model, self.stream, strategy, out=out, settings=self.settings, device=self.device)
        return _with_page(result)

    def resume(self, folder: Path) -> Learned:
        """Continue a run; the small network is made again from its seed."""
        config = Run.open(folder).config
        model = None
        if config.get("model") == "Sequential":
            small = self.model or "mlp"
            model = mlp_for(read_stream(config["stream"]["source"]), small, config["settings"]["seed"])
        return _with_page(learning.resume(folder, model, self.device))

    def compare(self, strategies: list[str], seeds: int, out: Path) -> StrategyComparison:
        """Several strategies."""
        self.plan(strategies, out)
        return compare_strategies(
            self.model, self.stream, strategies, seeds=range(seeds), out=out, settings=self.settings, device=self.device
        )


def _with_page(result: Learned) -> Learned:
    if result.folder is not None:
        atomic_write_text(result.folder / "learn.html", render_learning(result))
    return result


def split_strategies(text: str) -> list[str]:
    """Strategies separated by commas, semicolons or spaces; see `split_methods` for commas of options.

    >>> split_strategies("naive,replay:capacity=100,batch=5;ewc")
    ['naive', 'replay:capacity=100,batch=5', 'ewc']
    """
    return split_methods(re.sub(r"[;\s]+", ",", text))
