"""`letheon.compare`: several methods on the same request, each at the learning rate that suits it.

Every method gets an equal share of the budget. Its first run uses the learning rate that goes with its name; higher and
lower ones follow while it gets better and the share lasts, each looked at after a quarter, half and all of its steps
and stopped when it is not among the better half (`halving`). The best run of each method is audited against the same
model before. A comparison that is stopped goes on where it was: finished runs and audits are read from its folder.
Every run keeps its folder; the weights are kept of the best run of each method only.
"""

from __future__ import annotations

import copy
import itertools
import re
import shutil
import time
from collections.abc import Callable, Sequence
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
from letheon.audit.verdict import load_profile
from letheon.compare.halving import Halving, next_step, rungs
from letheon.compare.quick_score import QuickScore
from letheon.compare.record import Attempt, Comparison, Entry, numbers_of, relearning_of, with_front
from letheon.core.atomic import atomic_write_text, canonical_hash, is_whole, read_json, write_json
from letheon.core.errors import InputError, TrainingError
from letheon.core.model.models import LanguageModel, check_loadable, load, save_hash
from letheon.core.progress import progress
from letheon.core.runs import Run, slug
from letheon.forget.method_lists import read_methods
from letheon.forget.recipe import Recipe, StandaloneMethod
from letheon.forget.recipe_job import COLLAPSED, planned_steps
from letheon.forget.request import Request
from letheon.forget.run import check_model, forget
from letheon.forget.settings import resolve

Model = LanguageModel | str | Path
BEHIND = -10.0  # where a run stands that did not end: behind all that did, the further the higher its rate
OUTRUN = "others at this point are better"
ATTEMPT = "attempt.json"  # of a run that came to its end, or was stopped for good


def compare(
    model: Model,
    request: Request,
    methods: Sequence[str],
    *,
    out: str | Path,
    budget: float = 1200.0,
    reference: Model | None = None,
    profile: str | Path = "standard",
    seed: int = 0,
    device: str = "auto",
    **options: Any,
) -> Comparison:
    """Run each method on the request, choose its learning rate, audit the best run of each.

    Args:
        model: the model before, or what `load` takes; it is not changed.
        methods: recipes, edits and procedures, as `letheon.forget` takes them.
        out: folder for `compare.json`, `compare.html`, and `METHOD/` with the runs and the audit of each.
        budget: seconds for all runs together, in equal shares (audits are not counted); each method gets a run.
        reference: a model trained without the forget rows.
        options: further options of `letheon.forget` for every run, such as `steps` or `batch_size`.

    Raises:
        InputError: before a model is loaded, for what cannot work.
    """
    from letheon.compare.page import render_comparison

    recipes = read_methods(methods, request)
    criteria = load_profile(profile)
    for name in (model, reference):
        if name is not None and not isinstance(name, LanguageModel):
            check_loadable(name)
    for recipe in recipes.values():
        check_model(recipe, model)
    folder, clock = Path(out), time.monotonic()
    settings = {"budget": None, "seed": seed, "options": options, "rows": _rows(request)}
    with Run.begun(folder, settings, "a comparison with other rows, seed or options"):
        runner = _Runner(model, request, folder, criteria, reference, seed, device, dict(options))
        entries, spent = [], 0.0
        for i, (text, recipe) in enumerate(recipes.items()):
            # what others left over is shared; a slow first run of one takes nothing from the next
            share = max(budget / len(recipes), (budget - spent) / (len(recipes) - i))
            entry = runner.enter(text, recipe, share)
            spent += sum(attempt.seconds for attempt in entry.attempts)
            entries.append(entry)
        comparison = Comparison(
            model=runner.name,
            request=request.id,
            entries=with_front(entries),
            before=runner.controls.get("before", {}),
            reference=runner.controls.get("reference"),
            budget=budget,
            seconds=round(time.monotonic() - clock, 1),
            seed=seed,
        )
        write_json(folder / "compare.json", comparison.to_json())
        atomic_write_text(folder / "compare.html", render_comparison(comparison))
    return comparison


def seconds_of(text: str) -> float:
    """A length of time such as `90s`, `20m`, `1.5h`, in seconds.

    >>> seconds_of("20m")
    1200.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise InputError(f"budget: found {text!r}", "write a time such as 90s, 20m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _rows(request: Request) -> str:
    rows = [[replace(row, id="") for row in getattr(request, name)] for name in ("forget", "retain")]
    return canonical_hash(rows)


@dataclass
class _Runner:
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
            known = (_place(folder, rate) / ATTEMPT).is_file()
            if not known and scores and share < longest:
                break
            started = time.monotonic()
            try:
                attempt = self._attempt(folder, recipe, rate, halving)
                attempts.append(attempt)
                scores[step] = attempt.score if attempt.finished else BEHIND - step
                seconds = attempt.seconds  # also of a run of an earlier, stopped comparison
            except TrainingError as failure:  # not finite, or nothing moved: other rates may do
                error, scores[step], seconds = failure.problem, BEHIND - step, time.monotonic() - started
            share, longest = share - seconds, max(longest, seconds)
            if edit:
                break
        return attempts, error

    def _attempt(
        self, folder: Path, recipe: Recipe | StandaloneMethod, rate: float | None, halving: Halving
    ) -> Attempt:
        out = _place(folder, rate)
        done = out / ATTEMPT
        if done.is_file():
            known = read_json(done)
            attempt = Attempt(**{**known, "scores": {int(step): score for step, score in known["scores"].items()}})
            for step, score in attempt.scores.items():
                halving.goes_on(step, score)
            return attempt
        shutil.rmtree(out, ignore_errors=True)
        attempt = self._run(out, recipe, rate, halving)
        write_json(done, attempt.__dict__)
        return attempt

    def _run(self, out: Path, recipe: Recipe | StandaloneMethod, rate: float | None, halving: Halving) -> Attempt:
        started, scores = time.monotonic(), {}
        options = {**self.options, "seed": self.seed} | ({} if rate is None else {"learning_rate": rate})
        looks: list[int] = []

        def on_step(model: LanguageModel, steps: int) -> str | None:
            if steps not in looks:
                return None
            scores[steps] = self.quick_score(model)
            return None if halving.goes_on(steps, scores[steps]) or steps == looks[-1] else OUTRUN

        looks += rungs(planned_steps(recipe, self.request, *resolve(recipe, None, None, options)))
        result = forget(self.fresh(), self.request, recipe, out=out, on_step=on_step, **options)
        steps = result.outcome.steps
        if steps not in scores:  # ended early, or a method that is not watched
            scores[steps] = self.quick_score(result.model)
        return Attempt(
            learning_rate=rate,
            scores=scores,
            steps=steps,
            stopped=result.outcome.stopped,
            finished=result.outcome.stopped not in (OUTRUN, COLLAPSED),
            seconds=round(time.monotonic() - started, 2),
            folder=str(out.relative_to(self.folder)),
        )

    def _audited(self, folder: Path, model: Path) -> Audit:
        file = folder / "audit.json"
        weights = _weights_hash(model)
        if file.is_file() and (folder / "audited").is_file() and (folder / "audited").read_text() == weights:
            return Audit.read(file)
        after = load(model, device=self.device)
        checks = check_no_ops(self.fresh(), after, self.plan.forget)
        measured = _examined(f"auditing {folder.name}", after, self.plan)
        findings: dict[Role, ModelFindings] = {**self.findings, "after": measured}
        with judge_for(None, self.model, self.reference, self.device) as judge:
            judged = judge_answers(judge, findings)
            record = conclude(findings, self.plan, self.request, judge, judged, self.criteria, self.began, checks)
        write(record, folder)
        atomic_write_text(folder / "audited", weights)
        return record


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
