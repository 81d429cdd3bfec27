"""`audit`: examine a model before and after a deletion, decide by criteria fixed beforehand, write the record.

The order matters: criteria are fixed and hashed before anything is measured; every model is asked the same; the record
says beside each number what it cannot show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

from letheon.audit.conclusion import Further, conclude
from letheon.audit.criteria import Profile
from letheon.audit.measuring.continuation import Continuation, read_continuation
from letheon.audit.measuring.depth import Depth, States, fact_states, measure_depth
from letheon.audit.measuring.examinations import examine_once
from letheon.audit.measuring.findings import STAGES, ModelFindings, Report, examine
from letheon.audit.measuring.harness import GeneralTasks, TaskScores
from letheon.audit.measuring.judging import Judge, judge_answers, judge_for
from letheon.audit.measuring.no_ops import Check, check_no_ops
from letheon.audit.measuring.templates import Asking, template_of
from letheon.audit.plan import QUICK, AuditPlan, Settings, make_plan
from letheon.audit.record.evidence import Role
from letheon.audit.record.record import Audit
from letheon.audit.record.trained_forms import method_in
from letheon.audit.verdict import load_profile
from letheon.core.atomic import atomic_write_text
from letheon.core.devices import check_device
from letheon.core.errors import InputError
from letheon.core.model.attention import attending, check_attention
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.processes import is_main_process
from letheon.core.progress import progress as progress_bar
from letheon.core.workers import Workers, each_alone
from letheon.forget.request import Request

Model = LanguageModel | str | Path
# Called with stages done, stages in all, and the name of the last stage.
Progress = Callable[[int, int, str], None]


def audit(
    before: Model,
    after: Model,
    request: Request,
    *,
    reference: Model | None = None,
    judge: Model | None = None,
    profile: str | Path = "standard",
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    quick: bool = False,
    settings: Settings | None = None,
    after_learning: Continuation | str | Path | None = None,
    general_tasks: GeneralTasks | None = None,
    cache: bool = True,
    method: str = "",
    progress: Progress | None = None,
) -> Audit:
    """Measure the effect of a deletion, and decide whether it was carried out.

    Args:
        before, after: the model before and after the deletion, or what `load` takes.
        request: the rows to forget and to retain.
        reference: a model trained without the rows to forget, if there is one: the negative control.
        judge: a model from before any training on such rows, which judges how fluent answers are; see `judging`.
        profile: criteria: `standard`, `strict`, or the path of a TOML file.
        out: folder for `audit.json` and `report.html`.
        seed: seed of draws, intervals and relearning.
        device: where models given by name are loaded.
        quick, settings: a first look with fewer rows and steps; how much is measured, default the full or quick audit.
        after_learning: tasks that a copy of each model learns afterwards while forget and retain rows are measured: a
            stream file, `auto`, or a `Continuation` with its strategy. Default none: it takes one training per model.
        general_tasks: tasks of lm-evaluation-harness under which every model is evaluated.
        cache: whether examinations of the models before and reference are stored and read; see `examinations`.
        method: by which the model after was made; default what its folder says of it.
        progress: called after each stage; default a bar on the terminal.

    Each process of a launched job calls this. They share the work out; all return the record, process 0 writes it.

    Raises:
        InputError: there is no such profile or model, the reference is another of them, or a row exceeds the context.
        LetheonError: a model computes NaN or infinity.
    """
    criteria = load_profile(profile)
    continuation = _continuation(after_learning, request, seed)
    began, models = (datetime.now(UTC), time.monotonic()), _models(before, after, reference)
    chosen = replace(settings or (QUICK if quick else Settings()), seed=seed)
    stages = STAGES + (continuation is not None) + (general_tasks is not None)
    device = check_device(device)  # by this process's number, which it does not see below
    named = method or method_in(after.name if isinstance(after, LanguageModel) else after)
    with each_alone() as workers, _stages(len(models) * stages + 3, progress) as report:
        general = _General(general_tasks, report, workers)
        measured = _measure(models, request, chosen, continuation, device, cache, report, general, workers)
        judging = partial(judge_for, judge, before, reference, device)
        concluded = partial(_concluded, measured, judging, request, criteria, began, general.scores, named, report)
        record = workers.from_main(concluded)
    if out is not None and is_main_process():
        write(record, Path(out))
    return record


def _concluded(
    measured: tuple[AuditPlan, dict[Role, ModelFindings], list[Check], Depth | None],
    judge: Callable[[], AbstractContextManager[Judge]],
    request: Request,
    criteria: Profile,
    began: tuple[datetime, float],
    scores: dict[Role, list[TaskScores]],
    method: str,
    report: Report,
) -> Audit:
    """Judge the answers and make the record."""
    plan, findings, checks, depth = measured
    with judge() as judging:
        judged = judge_answers(judging, findings)
    report("judging")
    return conclude(findings, plan, request, judging, judged, criteria, began, checks, Further(depth, scores, method))


class _General:
    """Evaluates models under general tasks, if there are any, and collects their scores by role."""

    def __init__(self, tasks: GeneralTasks | None, report: Report, workers: Workers) -> None:
        self.tasks, self.report, self.workers = tasks, report, workers
        self.scores: dict[Role, list[TaskScores]] = {}

    def __call__(self, role: Role, model: LanguageModel) -> None:
        tasks = self.tasks
        if tasks is not None:
            self.scores[role] = self.workers.from_main(lambda: tasks.run(model))
            self.report("general ability")


def _models(before: Model, after: Model, reference: Model | None) -> dict[Role, Model]:
    """Return the models by role; those given by name are checked without reading weights."""
    models: dict[Role, Model] = {"before": before, "after": after}
    if reference is not None:
        models["reference"] = reference
    for model in models.values():
        if not isinstance(model, LanguageModel):
            check_loadable(model)
    return models


def _continuation(source: Continuation | str | Path | None, request: Request, seed: int) -> Continuation | None:
    """Read what the models learn afterwards, under the audit's seed."""
    if source is None:
        return None
    continuation = read_continuation(source, request) if isinstance(source, (str, Path)) else source
    return replace(continuation, settings=replace(continuation.settings, seed=seed))


def _measure(
    models: Mapping[Role, Model],
    request: Request,
    settings: Settings,
    continuation: Continuation | None,
    device: str,
    cache: bool,
    report: Report,
    general: _General,
    workers: Workers,
) -> tuple[AuditPlan, dict[Role, ModelFindings], list[Check], Depth | None]:
    """Make the plan and examine the models by it, one after another, the model before first.

    Of several workers process 0 makes the plan, the checks and the depth alone.
    """
    check_attention(settings.attention)
    _refuse_no_control(models, device)
    before = load(models["before"], device=device)
    _refuse_long_rows(before, request)
    asking = Asking.of(before)
    with attending(before.base(), settings.attention):
        drawn = workers.from_main(lambda: make_plan(before, request, settings))
    plan = replace(drawn, continuation=continuation, came_with=template_of(before))
    report("plan")
    control = examine_once if cache else examine
    with attending(before.base(), settings.attention):
        findings: dict[Role, ModelFindings] = {"before": control(before, plan, report, workers)}
        general("before", before)
    checks: list[Check] = []
    states: dict[Role, States] = {}
    patched = [row for row in plan.tried_facts if row.value] if settings.thorough and "reference" in models else []
    patched = patched if workers.is_main else []
    for role, given in list(models.items())[1:]:
        model, came_with = asking.alike(load(given, device=device))
        if role == "after":
            if workers.is_main:
                checks = check_no_ops(before, model, plan.forget)
            report("checks")
            del before  # frees a model given by name: nothing more is asked of it
        asked_so = replace(plan, came_with=came_with)
        with attending(model.base(), settings.attention):
            findings[role] = (examine if role == "after" else control)(model, asked_so, report, workers)
            general(role, model)
        if patched:
            states[role] = fact_states(model, patched)
    depth = None
    if patched:
        depth = measure_depth(load(models["before"], device=device), patched, states["after"], states["reference"])
    return plan, findings, checks, depth


def _refuse_no_control(models: Mapping[Role, Model], device: str) -> None:
    """Refuse a reference with the weights of the model before or after: it could not be a control.

    Raises:
        InputError: names the model that it is.
    """
    if "reference" not in models:
        return
    hashes = {role: load(model, device=device).parameters_hash() for role, model in models.items()}
    same = [role for role in ("before", "after") if hashes[role] == hashes["reference"]]
    if same:
        raise InputError(
            f"the reference has the weights of the model {same[0]}: it is no control",
            "give a model that was retrained without the rows to forget, or no reference",
        )


def _refuse_long_rows(model: LanguageModel, request: Request) -> None:
    """Refuse rows that do not fit into the model's context: their ends would not be measured.

    Raises:
        InputError: names the row.
    """
    for name in ("forget", "retain", "neighbours", "holdout"):
        model.encoder().encode_all(getattr(request, name), f"{name} row")


def write(record: Audit, folder: Path) -> None:
    """Write `audit.json` and `report.html`, each whole or not at all."""
    from letheon.audit.page.page import render_audit

    record.write(folder / "audit.json")
    atomic_write_text(folder / "report.html", render_audit(record))


@contextmanager
def _stages(total: int, progress: Progress | None) -> Iterator[Report]:
    """Give a function to call after each stage: it moves the caller's progress, or a bar on the terminal."""
    bar: AbstractContextManager[Callable[..., None]] = progress_bar("audit", total)
    if progress is not None:
        bar = nullcontext(lambda done, stage: progress(done, total, stage))
    done = count(1)
    with bar as advance:
        yield lambda stage: advance(next(done), stage)
