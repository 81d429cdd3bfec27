"""`letheon forget --sequence`: serve a queue of requests, or continue one."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.audit.ledger.commands import check_ledger, deleting, finish_sequence
from letheon.core.devices import check_device
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable, load
from letheon.core.runs import Run
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request
from letheon.forget.run import check_model, refuse_folder
from letheon.forget.sequences.queue import SequenceSettings
from letheon.forget.sequences.sequence import (
    FORGET,
    TRAINING,
    SequenceResult,
    check_sequence,
    forget_sequence,
    read_requests,
    resume_sequence,
)
from letheon.forget.settings import ForgetSettings, resolve
from letheon.jobs.forget import ForgetOptions


@dataclass(frozen=True)
class SequenceJob:
    """Requests that are served one after another."""

    given: ForgetOptions
    sequence: str  # a folder of request*.json, or a JSON-lines file

    def checked(self) -> tuple[list[Request], SequenceSettings, ForgetSettings, TrainSettings]:
        """Read requests and settings, and refuse everything that can be refused before a model is loaded."""
        given = self.given
        other = given.rows.given() + [name for name in ("request", "fields") if getattr(given.rows, name)]
        other += [
            name for name, value in (("tokens", given.method.tokens), ("reference", given.audit.reference)) if value
        ]
        if other:
            raise InputError(f"--sequence and --{other[0]} are given", "each request has rows of its own: leave it out")
        if not given.model:
            raise InputError("no model is given", "letheon forget MODEL --sequence requests/ ...")
        requests, settings = read_requests(self.sequence), sequence_settings(given.method.method)
        forget, training = resolve(settings.recipes()["medium"], FORGET, TRAINING, given.training)
        check_sequence(requests, settings, forget)
        check_loadable(given.model)
        for recipe in settings.recipes().values():
            check_model(recipe, given.model, training.attention)
        refuse_folder(given.folders.out)
        check_device(given.device)
        check_ledger(given.audit.ledger, requests, model=given.model, out=given.folders.out)
        return requests, settings, forget, training

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        requests, settings, forget, training = self.checked()
        return {
            "model": self.given.model,
            "requests": len(requests),
            "rows": sum(len(request.forget) for request in requests),
            "sequence": dataclasses.asdict(settings),
            "settings": dataclasses.asdict(forget),
            "training": dataclasses.asdict(training),
            "out": str(self.given.folders.out),
            "ledger": self.given.audit.ledger or None,
        }

    def work(self) -> dict[str, Any]:
        """Serve the queue and return a summary."""
        requests, settings, forget, training = self.checked()
        ledger = self.given.audit.ledger
        model = load(self.given.model, device=self.given.device)
        chosen = {"sequence": settings, "settings": forget, "training": training}
        with deleting(ledger, model, requests, "sequence", chosen):
            result = forget_sequence(
                model, requests, self.given.folders.out, settings=settings, forget=forget, training=training
            )
        finish_sequence(ledger, result)
        return _summary(result)


@dataclass(frozen=True)
class ResumedSequence:
    """A queue that is continued from its folder.

    Attributes:
        sequence: the requests as they are now, with further ones after those already served; empty reads the folder's.
    """

    given: ForgetOptions
    sequence: str
    folder: Path

    def plan(self) -> dict[str, Any]:
        """Return the folder and the configuration of the run."""
        self.given.refuse_changes()
        return {"resume": str(self.folder), **Run.open(self.folder).config}

    def work(self) -> dict[str, Any]:
        """Serve the requests that are left and return a summary."""
        self.given.refuse_changes()
        check_ledger(self.given.audit.ledger, [])
        requests = read_requests(self.sequence) if self.sequence else ()
        result = resume_sequence(self.folder, requests, self.given.device)
        finish_sequence(self.given.audit.ledger, result)
        return _summary(result)


def sequence_job(given: ForgetOptions, sequence: str) -> SequenceJob | ResumedSequence:
    """Return the job of a new queue, or of one that is continued."""
    if given.folders.resume is None:
        return SequenceJob(given, sequence)
    return ResumedSequence(given, sequence, given.folders.resume)


def sequence_settings(method: str) -> SequenceSettings:
    """Read the tiers' recipes: one for all, or three from low to high importance, separated by semicolons."""
    recipes = [recipe.strip() for recipe in method.split(";") if recipe.strip()]
    if not recipes:
        return SequenceSettings()
    if len(recipes) not in (1, 3):
        raise InputError(f"--method has {len(recipes)} recipes", "give one, or three: 'LOW; MEDIUM; HIGH'")
    low, medium, high = recipes if len(recipes) == 3 else recipes * 3
    return SequenceSettings(low, medium, high)


def _summary(result: SequenceResult) -> dict[str, Any]:
    reports, last = result.reports, result.reports[-1]
    return {
        "folder": str(result.folder),
        "model": str(result.folder / "model") if result.folder else None,
        "requests": len(reports),
        "redundant": sum(not report.kept for report in reports),
        "tiers": {tier: sum(report.tier == tier for report in reports) for tier in ("low", "medium", "high")},
        "drift": last.drift,
        "probability": sum(report.knowledge["probability"] for report in reports) / len(reports),
        "warnings": [f"request {report.number}: {words}" for report in reports for words in report.warnings],
    }
