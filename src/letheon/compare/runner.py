"""One method of a comparison: its runs at several learning rates, and the audit of the best.

Runs and audits that an earlier call finished are read from their folders; a run that was cut off is continued.
"""

from __future__ import annotations

import copy
import itertools
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from letheon.audit.conclusion import conclude
from letheon.audit.criteria import Profile
from letheon.audit.measuring.examinations import examine_once
from letheon.audit.measuring.findings import STAGES, ModelFindings, Report, examine
from letheon.audit.measuring.judging import judge_answers, judge_for
from letheon.audit.measuring.no_ops import check_no_ops
from letheon.audit.plan import QUICK, AuditPlan, make_plan
from letheon.audit.record.evidence import Role
from letheon.audit.record.record import Audit
from letheon.audit.run import write
from letheon.compare.halving import Halving, next_step, rungs
from letheon.compare.quick_score import QuickScore
from letheon.compare.record import Attempt, Entry, numbers_of, relearning_of
from letheon.core.atomic import atomic_write_text, is_whole, read_json, write_json
from letheon.core.errors import InputError, TrainingError
from letheon.core.hardware import budget_clock
from letheon.core.model.models import LanguageModel, load, save_hash
from letheon.core.progress import progress
from letheon.core.runs import slug
from letheon.forget.recipe import Recipe, StandaloneMethod
from letheon.forget.recipe_job import COLLAPSED, planned_steps
from letheon.forget.request import Request
from letheon.forget.run import forget, resume
from letheon.forget.settings import resolve

Model = LanguageModel | str | Path
BEHIND = -10.0  # where a run stands that did not end: behind all that did, the further the higher its rate
OUTRUN = "others at this point are better"
ATTEMPT = "attempt.json"  # of a run that came to its end, or was stopped for good
FAILURE = "failure.json"  # of a run that could not go on at its rate
LOOKS = "looks.json"  # what was seen of a run so far


@dataclass
class Runner:
    """Runs the methods on one request: holds the model before, its measurements, and the folder."""

    model: Model
    request: Request
    folder: Path
    criteria: Profile
    reference: Model | None
    seed: int
    device: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        self.began = (datetime.now(UTC), time.monotonic())
        before = self.fresh()
        self.name = before.name
        self.quick_score = QuickScore(before, self.request, self.seed)
        self.plan: AuditPlan = make_plan(before, self.request, replace(QUICK, seed=self.seed))
        models: dict[Role, LanguageModel] = {"before": before}
        if self.reference is not None:
            models["reference"] = load(self.reference, device=self.device)
        self.findings: dict[Role, ModelFindings] = {}
        for role, model in models.items():
            self.findings[role] = _examined(f"measuring the model {role}", model, self.plan, examine_once)
        self.controls: dict[str, dict[str, float | None]] = {}

    def fresh(self) -> LanguageModel:
        """The model before, to be changed."""
        if not isinstance(self.model, LanguageModel):
            return load(self.model, device=self.device)
        return LanguageModel(
            copy.deepcopy(self.model.model), self.model.tokenizer, self.model.name, list(self.model.notes)
        )

    def enter(self, text: str, recipe: Recipe | StandaloneMethod, share: float) -> Entry:
        """Run a method at several rates within its share of the budget, and audit the best run."""
        folder = self.folder / slug(text)
        attempts, error = self._attempts(folder, recipe, share)
        ended = [attempt for attempt in attempts if attempt.finished]
        if not ended:
            return Entry(text, attempts, error=error or "no run came to its end")
        chosen = max(ended, key=lambda attempt: attempt.score)
        for attempt in attempts:
            if attempt is not chosen:
                shutil.rmtree(self.folder / attempt.folder / "model", ignore_errors=True)
        record = self._audited(folder, self.folder / chosen.folder / "model")
        for role in self.findings:
            self.controls[role] = numbers_of(record, role)
        return Entry(
            method=text,
            attempts=attempts,
            chosen=chosen,
            numbers=numbers_of(record, "after"),
            outcome=record.verdict.outcome,
            relearning=relearning_of(record, "after"),
        )

    def _attempts(self, folder: Path, recipe: Recipe | StandaloneMethod, share: float) -> tuple[list[Attempt], str]:
        _, training = resolve(recipe, None, None, self.options)
        edit = isinstance(recipe, StandaloneMethod) and recipe.part.method.kind == "edit"
        attempts: list[Attempt] = []
        scores: dict[int, float] = {}
        halving, error, longest = Halving(), "", 0.0
        while (step := next_step(scores)) is not None:
            rate = None if edit else float(f"{training.learning_rate * 10 ** (step / 2):.2g}")
            out = _place(folder, rate)
            known = (out / ATTEMPT).is_file() or (out / FAILURE).is_file()
            if not known and scores and share < longest:
                break
            try:
                attempt = self._attempt(out, recipe, rate, halving)
                attempts.append(attempt)
                scores[step] = attempt.score if attempt.finished else BEHIND - step
                seconds = attempt.seconds  # also of a run of an earlier, stopped comparison
            except TrainingError as failure:  # not finite, or nothing moved: other rates may do
                error, scores[step] = failure.problem, BEHIND - step
                seconds = read_json(out / FAILURE)["seconds"]
            share, longest = share - seconds, max(longest, seconds)
            if edit:
                break
        return attempts, error

    def _attempt(self, out: Path, recipe: Recipe | StandaloneMethod, rate: float | None, halving: Halving) -> Attempt:
        """Run at one rate, or read what an earlier call did.

        Raises:
            TrainingError: the run could not go on at this rate.
        """
        if (out / ATTEMPT).is_file():
            known = read_json(out / ATTEMPT)
            attempt = Attempt(**{**known, "scores": _by_step(known["scores"])})
            for step, score in attempt.scores.items():
                halving.goes_on(step, score)
            return attempt
        if (out / FAILURE).is_file():
            raise TrainingError(read_json(out / FAILURE)["problem"], "")
        begun = (out / "config.json").is_file() and not isinstance(self.model, LanguageModel)
        if not begun:
            shutil.rmtree(out, ignore_errors=True)
        attempt = self._run(out, recipe, rate, halving, begun)
        write_json(out / ATTEMPT, attempt.__dict__)
        return attempt

    def _run(
        self, out: Path, recipe: Recipe | StandaloneMethod, rate: float | None, halving: Halving, begun: bool
    ) -> Attempt:
        looks = _Looks(out, halving, self.quick_score, self.device, begun)
        options = {**self.options, "seed": self.seed} | ({} if rate is None else {"learning_rate": rate})
        looks.rungs = rungs(planned_steps(recipe, self.request, *resolve(recipe, None, None, options)))
        try:
            if begun:
                result = resume(out, device=self.device, on_step=looks.on_step)
            else:
                result = forget(self.fresh(), self.request, recipe, out=out, on_step=looks.on_step, **options)
        except TrainingError as failure:
            write_json(out / FAILURE, {"problem": failure.problem, "seconds": looks.seconds()})
            raise
        steps = result.outcome.steps
        if steps not in looks.scores:  # ended early, or a method that is not watched
            looks.scores[steps] = self.quick_score(result.model)
        return Attempt(
            learning_rate=rate,
            scores=looks.scores,
            steps=steps,
            stopped=result.outcome.stopped,
            finished=result.outcome.stopped not in (OUTRUN, COLLAPSED),
            seconds=round(looks.seconds(), 2),
            folder=out.relative_to(self.folder).as_posix(),
        )

    def _audited(self, folder: Path, model: Path) -> Audit:
        file = folder / "audit.json"
        weights = _weights_hash(model)
        audited = folder / "audited"
        if file.is_file() and audited.is_file() and audited.read_text(encoding="utf-8") == weights:
            return Audit.read(file)
        after = load(model, device=self.device)
        checks = check_no_ops(self.fresh(), after, self.plan.forget)
        measured = _examined(f"auditing {folder.name}", after, self.plan)
        findings: dict[Role, ModelFindings] = {**self.findings, "after": measured}
        with judge_for(None, self.model, self.reference, self.device) as judge:
            judged = judge_answers(judge, findings)
            record = conclude(findings, self.plan, self.request, judge, judged, self.criteria, self.began, checks)
        write(record, folder)
        atomic_write_text(audited, weights)
        return record


class _Looks:
    """Looks at a run at its rungs and says whether it goes on; a resumed run knows what was seen before."""

    def __init__(
        self, out: Path, halving: Halving, quick_score: Callable[[LanguageModel], float], device: str, begun: bool
    ) -> None:
        self.out, self.halving, self.quick_score = out, halving, quick_score
        self.rungs: list[int] = []
        self.clock = budget_clock(device)
        self.started = self.clock()
        known = begun and (out / LOOKS).is_file()
        seen: dict[str, Any] = read_json(out / LOOKS) if known else {"scores": {}, "seconds": 0.0}
        self.scores, self.before = _by_step(seen["scores"]), float(seen["seconds"])
        self.decided = {step: halving.goes_on(step, score) for step, score in self.scores.items()}

    def seconds(self) -> float:
        """Return the time that the run has taken."""
        return self.before + self.clock() - self.started

    def on_step(self, model: LanguageModel, steps: int) -> str | None:
        """Score the model at a rung; return a reason to stop where others are better."""
        if steps not in self.rungs:
            return None
        if steps not in self.scores:
            self.scores[steps] = self.quick_score(model)
            write_json(self.out / LOOKS, {"scores": self.scores, "seconds": self.seconds()})
            self.decided[steps] = self.halving.goes_on(steps, self.scores[steps])
        return None if self.decided[steps] or steps == self.rungs[-1] else OUTRUN


def _by_step(scores: dict[str, float]) -> dict[int, float]:
    return {int(step): score for step, score in scores.items()}


def _place(folder: Path, rate: float | None) -> Path:
    """Return the folder of a method's run at a rate."""
    return folder / ("run" if rate is None else f"lr-{rate:.3g}")


def _examined(
    title: str,
    model: LanguageModel,
    plan: AuditPlan,
    how: Callable[[LanguageModel, AuditPlan, Report], ModelFindings] = examine,
) -> ModelFindings:
    """Examine a model, with a bar on the terminal."""
    stages = itertools.count(1)
    with progress(title, STAGES) as advance:
        return how(model, plan, lambda words: advance(next(stages), words))


def _weights_hash(model: Path) -> str:
    if not is_whole(model):
        raise InputError(f"{model} is not whole", "remove the method's folder and run the comparison again")
    return save_hash(model)
