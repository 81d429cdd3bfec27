"""`letheon learn`: read the stream, check, learn, write the page; or continue such a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.core.atomic import atomic_write_text
from letheon.core.errors import InputError
from letheon.core.model.attention import check_attention
from letheon.core.model.models import check_loadable
from letheon.core.model.structure import check_taken
from letheon.core.processes import is_main_process
from letheon.core.runs import Run, refuse_changes
from letheon.retain import learn as learning
from letheon.retain.composition import read_strategy
from letheon.retain.learned import Learned
from letheon.retain.models import NAME, is_mlp, mlp_for
from letheon.retain.page import render_learning
from letheon.retain.settings import LearnSettings
from letheon.retain.stream import Stream
from letheon.retain.streams import read_stream


@dataclass(frozen=True)
class Source:
    """A model, a stream, and how the model learns it: what `learn` and `compare-strategies` share."""

    model: str  # a language model, or `mlp`, `mlp=WIDTHS`, `mlp=WIDTHS/no-bias` for a small network
    name: str  # the name or file of the stream
    training: Mapping[str, Any] = field(default_factory=dict)  # fields of `LearnSettings` that were given

    @cached_property
    def stream(self) -> Stream:
        """The stream, read and checked."""
        if not self.name:
            raise InputError("no stream was given", "give --stream FILE.toml or --stream split-digits")
        return read_stream(self.name)

    @cached_property
    def settings(self) -> LearnSettings:
        """All settings; a batch size that was not given, or is 0, suits the kind of model."""
        size = self.training.get("batch_size") or (8 if self.stream.is_text else 32)
        return LearnSettings(**{**self.training, "batch_size": size})

    @property
    def is_small(self) -> bool:
        """Whether the model is a small network that is made here."""
        return is_mlp(self.model)

    def plan(self, strategies: list[str], out: Path) -> dict[str, Any]:
        """Make every check that needs no model and return what would be done."""
        if not self.model:
            raise InputError("no model was given", "write `letheon learn MODEL --stream ...`")
        texts = [read_strategy(text).text for text in strategies]
        check_attention(self.settings.attention)
        if self.is_small:
            mlp_for(self.stream, self.model)
        else:
            check_loadable(self.model)
            check_taken(self.model, self.settings.attention)
        return {
            "model": self.model,
            "stream": self.stream.name,
            "scenario": self.stream.scenario,
            "tasks": {task.name: f"{len(task.train)} rows, {len(task.test)} for tests" for task in self.stream},
            "strategies": texts,
            "epochs": self.settings.epochs,
            "out": str(out),
        }


@dataclass(frozen=True)
class LearnJob:
    """A new run of `letheon learn`."""

    source: Source
    strategy: str = "replay"
    out: Path = Path("learn")
    device: str = "auto"

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        return self.source.plan([self.strategy], self.out)

    def work(self) -> Learned:
        """Learn the stream and write the page."""
        self.plan()
        source, settings = self.source, self.source.settings
        model = mlp_for(source.stream, source.model, settings.seed) if source.is_small else source.model
        learned = learning.learn(
            model, source.stream, self.strategy, out=self.out, settings=settings, device=self.device
        )
        return _with_page(learned)


@dataclass(frozen=True)
class ResumedLearn:
    """A run of `letheon learn` that is continued from its folder."""

    folder: Path
    model: str = ""  # the shape of a small network, as it was given to the run; empty for `mlp`
    device: str = "auto"
    changes: Sequence[str] = ()  # names of options that were given and decide what a run does

    def plan(self) -> dict[str, Any]:
        """Return the folder and the configuration of the run; refuse options that would change it."""
        refuse_changes(self.changes, self.folder)
        return {"resume": str(self.folder), **Run.open(self.folder).config}

    def work(self) -> Learned:
        """Continue the run; a small network is made again from its seed."""
        refuse_changes(self.changes, self.folder)
        config = Run.open(self.folder).config
        model = None
        if config.get("model") == "Sequential":
            stream = read_stream(config["stream"]["source"])
            model = mlp_for(stream, self.model or NAME, config["settings"]["seed"])
        return _with_page(learning.resume(self.folder, model, self.device))


def _with_page(learned: Learned) -> Learned:
    if learned.folder is not None and is_main_process():
        atomic_write_text(learned.folder / "learn.html", render_learning(learned))
    return learned
