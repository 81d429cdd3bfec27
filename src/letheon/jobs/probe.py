"""`letheon probe`: check the settings and files, load the models, look inside, write the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from letheon.audit.plan import GENERAL_TEXT
from letheon.core.atomic import check_writable, plain
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.probe.binding.report import BindingSettings, probe_binding
from letheon.probe.changes import ChangeSettings, compare_models
from letheon.probe.choices import read_choices
from letheon.probe.forgetting_depth import forgetting_depth
from letheon.probe.forgetting_report import depth_report
from letheon.probe.negative_bias.report import BiasSettings, probe_negative_bias
from letheon.probe.post_training.report import Contrast, PostTrainingSettings, probe_post_training
from letheon.probe.record import ProbeReport, save_probe
from letheon.probe.retrieval_heads.needles import NEEDLES, read_needles
from letheon.probe.retrieval_heads.report import RetrievalSettings, probe_retrieval_heads
from letheon.probe.secondary_sinks.report import SinkSettings, probe_sinks
from letheon.probe.statements import read_statements

SETTINGS: dict[str, Callable[..., Any]] = {
    "retrieval-heads": RetrievalSettings,
    "sinks": SinkSettings,
    "binding": BindingSettings,
    "negative-bias": BiasSettings,
    "post-training": PostTrainingSettings,
    "compare": ChangeSettings,
    "forgetting-depth": dict,
}


@dataclass(frozen=True)
class ProbeJob:
    """A probe as the command line asks for it.

    Attributes:
        probe: its name.
        models: names of the one or two models.
        given: the settings that were given.
        files: name of an input -> path or paths.
        out: folder of the page; None where nothing is written.
    """

    probe: str
    models: tuple[str, ...]
    given: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    out: Path | None = None
    device: str = "auto"

    @cached_property
    def settings(self) -> Any:
        """The settings, checked."""
        return SETTINGS[self.probe](**self.given)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The files' content, read and checked; defaults where none was given."""
        readers: dict[str, Callable[[Any], Any]] = {
            "text": _text,
            "needles": read_needles,
            "statements": lambda paths: {path.stem: read_statements(path) for path in paths},
            "refused": _lines,
            "answered": _lines,
            "trained": read_choices,
            "held_out": read_choices,
        }
        read = {name: readers[name](value) for name, value in self.files.items()}
        if ("refused" in read) != ("answered" in read):
            raise InputError("only one of --refused and --answered is given", "give both, or neither")
        if "refused" in read and set(read["refused"]) == set(read["answered"]):
            raise InputError("--refused and --answered hold the same prompts", "give prompts of both kinds")
        return {"text": _text(GENERAL_TEXT), **read}

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        for model in self.models:
            check_loadable(model)
        if self.out is not None:
            check_writable(self.out)
        given = sorted(set(self.inputs) & set(self.files))
        settings = plain(self.settings)
        return {"probe": self.probe, "models": list(self.models), "settings": settings, "files": given,
                "out": str(self.out) if self.out else None}  # fmt: skip

    def work(self) -> ProbeReport:
        """Check, look inside, and write the page where a folder was given."""
        self.plan()
        report = self._probe([load(model, device=self.device) for model in self.models])
        if self.out is not None:
            save_probe(report, self.out)
        return report

    def _probe(self, models: list[LanguageModel]) -> ProbeReport:
        """Run the probe of this name."""
        inputs, settings, model = self.inputs, self.settings, models[0]
        statements = inputs.get("statements")
        match self.probe:
            case "retrieval-heads":
                return probe_retrieval_heads(model, inputs["text"], inputs.get("needles", NEEDLES), settings)
            case "sinks":
                return probe_sinks(model, inputs["text"], settings)
            case "binding":
                return probe_binding(model, settings)
            case "negative-bias":
                return probe_negative_bias(model, statements, settings)
            case "post-training":
                contrast = Contrast(inputs["refused"], inputs["answered"]) if "refused" in inputs else Contrast()
                return probe_post_training(model, models[1], statements, contrast, settings)
            case "compare":
                return compare_models(model, models[1], inputs["text"], settings)
            case _:
                return depth_report(
                    forgetting_depth(model, models[1], inputs["trained"], inputs["held_out"], **settings)
                )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be read: {error}", "give a text file in UTF-8") from None


def _lines(path: Path) -> tuple[str, ...]:
    found = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
    if len(found) < 4:
        raise InputError(f"{path} has {len(found)} prompts", "give at least four, one per line")
    return found
