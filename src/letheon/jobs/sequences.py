"""`letheon forget --sequence`: a queue of requests."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from letheon.audit.ledger.commands import check_ledger, deleting, finish_sequence
from letheon.core.errors import InputError
from letheon.core.model.models import check_device, check_loadable, load
from letheon.core.runs import Run
from letheon.core.training.loop import TrainSettings
from letheon.forget.request import Request
from letheon.forget.run import refuse_folder
from letheon.forget.sequences.queue import SequenceSettings
from letheon.forget.sequences.sequence import (
    FORGET,
    TRAINING,
    check_sequence,
    forget_sequence,
    read_requests,
    resume_sequence,
)
from letheon.forget.settings import ForgetSettings, resolve
from letheon.jobs.forgetting import ForgetJob


@dataclass
class SequenceJob:
    """`letheon forget --sequence`: requests one after another, with what the command line gave."""

    given: ForgetJob
    sequence: str

    def checked(self) -> tuple[list[Request], SequenceSettings, ForgetSettings, TrainSettings]:
        """Everything that can be refused before a model is loaded is refused here."""
        job = self.given
        other = [name for name, source in job.files.items() if source]
        other += [name for name in ("request", "fields", "tokens", "reference") if getattr(job, name)]
        if other:
            raise InputError(f"--sequence and --{other[0]} are given", "each request has rows of its own: leave it out")
        if not job.model:
            raise InputError("no model is given", "letheon forget MODEL --sequence requests/ ...")
        requests, settings = read_requests(self.sequence), self.settings()
        forget, training = resolve(settings.recipes()["medium"], FORGET, TRAINING, job.options)
        check_sequence(requests, settings, forget)
        check_loadable(job.model)
        refuse_folder(job.out)
        check_device(job.device)
        check_ledger(job.ledger, requests, model=job.model, out=job.out)
        return requests, settings, forget, training

    def settings(self) -> SequenceSettings:
        """The tiers' recipes: one for all, or three from low to high importance, separated by semicolons."""
        recipes = [recipe.strip() for recipe in self.given.method.split(";") if recipe.strip()]
        if not recipes:
            return SequenceSettings()
        if len(recipes) not in (1, 3):
            raise InputError(f"--method has {len(recipes)} recipes", "give one, or three: 'LOW; MEDIUM; HIGH'")
        low, medium, high = recipes if len(recipes) == 3 else recipes * 3
        return SequenceSettings(low, medium, high)

    def plan(self) -> dict[str, Any]:
        """What would be done, for --dry-run."""
        job = self.given
        if job.resume:
            job.refuse_changes()
            return {"resume": str(job.resume), **Run.open(job.resume).config}
        requests, settings, forget, training = self.checked()
        return {
            "model": job.model,
            "requests": len(requests),
            "rows": sum(len(request.forget) for request in requests),
            "sequence": dataclasses.asdict(settings),
            "settings": dataclasses.asdict(forget),
            "training": dataclasses.asdict(training),
            "out": str(job.out),
            "ledger": job.ledger or None,
        }

    def work(self) -> dict[str, Any]:
        """Serve the queue, or what is left of it and what came after; returns a summary."""
        job = self.given
        if job.resume:
            job.refuse_changes()
            check_ledger(job.ledger, [])
            result = resume_sequence(job.resume, read_requests(self.sequence) if self.sequence else (), job.device)
        else:
            requests, settings, forget, training = self.checked()
            model = load(job.model, device=job.device)
            chosen = {"sequence": settings, "settings": forget, "training": training}
            with deleting(job.ledger, model, requests, "sequence", chosen):
                result = forget_sequence(model, requests, job.out, settings=settings, forget=forget, training=training)
        finish_sequence(job.ledger, result)
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
