"""`audit`: examine a model before and after a deletion, decide by criteria fixed beforehand, write the record.

The order is the point: criteria are fixed and hashed before anything is measured; every model is asked the same; what
a number can't show is said beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from letheon.audit.criteria import Profile
from letheon.audit.measuring.continuation import Continuation, read_continuation
from letheon.audit.measuring.detection import remark
from letheon.audit.measuring.findings import STAGES, ModelFindings, Report, examine
from letheon.audit.measuring.judging import Judge, JudgedRow, judge_answers, judge_for
from letheon.audit.measuring.no_ops import Check, check_no_ops, failures
from letheon.audit.plan import QUICK, AuditPlan, Settings, make_plan
from letheon.audit.record.evidence import Evidence, Role
from letheon.audit.record.metric_table import all_metrics
from letheon.audit.record.record import Audit, Environment, ModelIdentity, NotComputable, RequestSummary
from letheon.audit.record.record_sections import all_answers, all_attacks, all_continued, all_curves, all_rounded
from letheon.audit.record.remarks import not_computable, warnings_of, warnings_of_learning
from letheon.audit.verdict import judge as decide
from letheon.audit.verdict import load_profile
from letheon.core.atomic import atomic_write_text, plain
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.progress import progress as progress_bar
from letheon.core.rows.examples import Example
from letheon.core.runs import versions
from letheon.forget.request import SUBSETS, Request

Model = LanguageModel | str | Path
# Called with stages done, stages in all, and what was done last.
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
    progress: Progress | None = None,
) -> Audit:
    """Measure what a deletion did, and decide whether it was carried out.

    Args:
        before, after: the model before and after the deletion, or what `load` takes.
        request: what was to be forgotten and kept.
        reference: a model trained without the rows to forget, if there is one: the negative control.
        judge: a model from before any training on such rows, which judges how fluent answers are; see `judging`.
        profile: criteria: `standard`, `strict`, or the path of a TOML file.
        out: folder for `audit.json` and `report.html`.
        seed: of draws, intervals and relearning.
        device: where models given by name are loaded.
        quick: a first look with fewer rows and steps.
        settings: how much is done; default the full audit, or the quick one.
        after_learning: tasks that a copy of each model goes on to learn while the forgotten and the kept are watched: a
            stream file, `auto`, or a `Continuation` with its strategy. Default none: it takes a training a model.
        progress: told of each stage; default a bar on the terminal.

    Raises:
        InputError: there is no such profile or model, or a row is longer than the model's context.
        LetheonError: a model computes NaN or infinity.
    """
    criteria = load_profile(profile)
    continuation = after_learning
    if isinstance(continuation, (str, Path)):
        continuation = read_continuation(continuation, request)
    if continuation is not None:
        continuation = replace(continuation, settings=replace(continuation.settings, seed=seed))
    started, clock = datetime.now(UTC), time.monotonic()
    models: list[tuple[Role, Model]] = [("before", before), ("after", after)]
    if reference is not None:
        models.append(("reference", reference))
    for _, model in models:
        if not isinstance(model, LanguageModel):
            check_loadable(model)
    chosen = replace(settings or (QUICK if quick else Settings()), seed=seed)

    stages = STAGES + (continuation is not None)
    with _stages(len(models) * stages + 3, progress) as report:
        first = load(before, device=device)
        _demand_room(first, request)
        plan = make_plan(first, request, chosen, continuation)
        report("plan")
        found: dict[Role, ModelFindings] = {"before": examine(first, plan, report)}
        checks: list[Check] = []
        for role, model in models[1:]:
            second = load(model, device=device)
            if role == "after":
                checks = check_no_ops(first, second, plan.forget)
                report("checks")
                del first  # a model given by name is let go once nothing more is asked of it
            found[role] = examine(second, plan, report)
        with judge_for(judge, before, reference, device) as judging:
            judged = judge_answers(judging, found)
        report("judging")

    record = conclude(found, plan, request, judging, judged, criteria, (started, clock), checks)
    if out is not None:
        write(record, Path(out))
    return record


def conclude(
    found: dict[Role, ModelFindings],
    plan: AuditPlan,
    request: Request,
    judging: Judge,
    judged: list[JudgedRow],
    criteria: Profile,
    began: tuple[datetime, float],
    checks: Sequence[Check] = (),
) -> Audit:
    """The record of what was found on the models, with the verdict.

    Args:
        began: when the criteria had been fixed and measuring began: the time (UTC) and the monotonic clock.
        checks: whether the deletion did anything, and whether the model computes the same in every way.
    """
    seed = plan.settings.seed
    detected = {role: findings.detection for role, findings in found.items()}
    metrics = all_metrics(found, plan, judging, judged)
    evidence = Evidence(
        metrics=metrics,
        answers=all_answers(judged),
        attacks=all_attacks(found),
        curves=all_curves(found, plan),
        quantised=all_rounded(found, seed),
        continued=all_continued(found, plan),
    )
    return Audit(
        **dict(evidence),
        request=_summary(request),
        models=[_identity(role, findings) for role, findings in found.items()],
        settings={
            "audit": _settings(plan, judging.name),
            "seconds": _seconds(found),
            "checks": plain([asdict(check) for check in checks]),
            "detection": plain({role: asdict(one) for role, one in detected.items() if one}),
            "after_learning": plan.continuation.to_json() if plan.continuation else None,
        },
        environment=_environment(found["after"].device, seed),
        profile=criteria,
        verdict=decide(criteria, evidence),
        not_computable=[
            NotComputable(what=what, reason=reason) for what, reason in not_computable(found, plan, metrics).items()
        ],
        started=began[0],
        seconds=round(time.monotonic() - began[1], 2),
        warnings=[
            *warnings_of(found, plan, request, judging, judged, metrics),
            *warnings_of_learning(evidence.continued, plan),
            *failures(checks),
            *filter(None, [remark(detected)]),
        ],
    )


def _demand_room(model: LanguageModel, request: Request) -> None:
    """Refuse rows that do not fit into the model's context: what lies beyond it would not be measured.

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
    """A function to call after each stage: it moves the caller's progress, or a bar on the terminal."""
    done = 0
    with progress_bar("audit", total) if progress is None else _silent() as advance:

        def report(words: str) -> None:
            nonlocal done
            done += 1
            if progress is None:
                advance(done, words)
            else:
                progress(done, total, words)

        yield report


@contextmanager
def _silent() -> Iterator[Callable[[int, str], None]]:
    yield lambda done, words: None


def _summary(request: Request) -> RequestSummary:
    rows = {name: getattr(request, name) for name in SUBSETS}
    carried = [
        field.name
        for field in fields(Example)
        if field.name not in {"prompt", "answer", "id"}
        and any(getattr(r, field.name) for rs in rows.values() for r in rs)
    ]
    return RequestSummary(
        id=request.id,
        reason=request.reason,
        received=request.received or None,
        due=request.due,
        counts={name: len(found) for name, found in rows.items()},  # type: ignore[misc]  # SUBSETS are the Subset names
        fields=carried,
    )


def _identity(role: Role, findings: ModelFindings) -> ModelIdentity:
    return ModelIdentity(
        role=role,
        name=findings.name,
        sha256=findings.sha256,
        parameters=findings.parameters,
        adapter=findings.adapter,
    )


def _settings(plan: AuditPlan, judge: str) -> dict[str, Any]:
    """The resolved settings, and the rows that were drawn."""
    drawn = ("tried", "retain", "neighbours", "holdout", "rounded", "trained", "watched", "unrelated")
    rows = {name: [row.id for row in getattr(plan, name)] for name in drawn}
    quick = replace(plan.settings, seed=0) == QUICK
    return {**plain(asdict(plan.settings)), "quick": quick, "judge": judge, "rows": rows}


def _seconds(found: dict[Role, ModelFindings]) -> dict[str, Any]:
    return {role: dict(findings.seconds) for role, findings in found.items()}


def _environment(device: str, seed: int) -> Environment:
    packages = versions()
    return Environment(
        python=packages.pop("python"),
        platform=packages.pop("platform"),
        packages=packages,
        device=device,
        threads=torch.get_num_threads(),
        precision="float32",
        seed=seed,
    )
