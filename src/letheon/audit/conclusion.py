"""Make an audit's record, with its verdict, from the measurements of its models."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any, NamedTuple

import torch

from letheon.audit.criteria import Profile, Verdict
from letheon.audit.measuring.depth import Depth
from letheon.audit.measuring.detection import remark
from letheon.audit.measuring.findings import ModelFindings
from letheon.audit.measuring.judging import Judge, JudgedRow
from letheon.audit.measuring.no_ops import Check, failures
from letheon.audit.measuring.templates import Template, changed, held_back
from letheon.audit.plan import QUICK, AuditPlan
from letheon.audit.record.any_attack import any_attack_metrics
from letheon.audit.record.evidence import Evidence, Role
from letheon.audit.record.general_ability import Ability, ability_differences, ability_metrics
from letheon.audit.record.metric_table import all_metrics, depth_metrics
from letheon.audit.record.record import Audit, Environment, ModelIdentity, NotComputable, RequestSummary
from letheon.audit.record.remarks import not_computable, warnings_of, warnings_of_attacks, warnings_of_learning
from letheon.audit.record.sections import all_answers, all_attacks, all_continued, all_curves, all_rounded
from letheon.audit.record.trained_forms import forms_of_method
from letheon.audit.verdict import judge as decide
from letheon.core.atomic import plain
from letheon.core.rows.examples import Example
from letheon.core.runs import versions
from letheon.forget.request import SUBSETS, Request

# Rows of the plan whose ids the record lists.
DRAWN = ("tried", "tried_texts", "retain", "neighbours", "holdout", "rounded", "trained", "watched", "unrelated")


class Further(NamedTuple):
    """What only some audits measure.

    Attributes:
        depth: at which layers the model after still carries the facts.
        ability: each model's scores of general tasks.
        method: by which the model after was made; empty where it is not known.
    """

    depth: Depth | None = None
    ability: Ability = {}  # noqa: RUF012 (never changed)
    method: str = ""


def conclude(
    findings: Mapping[Role, ModelFindings],
    plan: AuditPlan,
    request: Request,
    judge: Judge,
    judged: list[JudgedRow],
    criteria: Profile,
    began: tuple[datetime, float],
    checks: Sequence[Check] = (),
    measured: Further | None = None,
) -> Audit:
    """Put the measurements of all models into a record and decide by the criteria.

    Args:
        judged: the models' answers as the judge found them.
        began: when the criteria had been fixed and measuring began: the time (UTC) and the monotonic clock.
        checks: whether the deletion changed anything, and whether the model computes the same in every way.
        measured: what was measured or is known beside the findings.
    """
    depth, ability, method = measured or Further()
    forms, seed = forms_of_method(method), plan.settings.seed
    metrics = [*all_metrics(findings, plan, judge, judged), *depth_metrics(depth, plan)]
    metrics += ability_metrics(ability, seed)
    attacks = all_attacks(findings, forms)
    metrics += any_attack_metrics(findings, plan, attacks)
    evidence = Evidence(
        metrics=metrics,
        answers=all_answers(judged),
        attacks=attacks,
        curves=all_curves(findings, plan),
        quantised=all_rounded(findings, plan.settings.seed),
        continued=all_continued(findings, plan),
    )
    missing = not_computable(findings, plan, metrics)
    return Audit(
        **dict(evidence),
        request=_summary(request),
        models=[
            ModelIdentity(role=role, name=one.name, sha256=one.sha256, parameters=one.parameters, adapter=one.adapter)
            for role, one in findings.items()
        ],
        settings=_settings(findings, plan, judge, checks, depth)
        | {"method": method, "trained forms": list(forms), "general_ability": ability_differences(ability, seed)},
        environment=_environment(findings["after"].device, plan.settings.seed),
        profile=criteria,
        verdict=_held_back(decide(criteria, evidence), held_back(templates_of(findings))),
        not_computable=[NotComputable(what=what, reason=reason) for what, reason in missing.items()],
        started=began[0],
        seconds=round(time.monotonic() - began[1], 2),
        warnings=[
            *changed(templates_of(findings)),
            *warnings_of(findings, plan, request, judge, metrics),
            *warnings_of_learning(evidence.continued, plan),
            *warnings_of_attacks(evidence.attacks),
            *failures(checks),
            *filter(None, [remark({role: model.detection for role, model in findings.items()})]),
        ],
    )


def _summary(request: Request) -> RequestSummary:
    sets = {name: getattr(request, name) for name in SUBSETS}
    every = [row for rows in sets.values() for row in rows]
    names = [field.name for field in fields(Example) if field.name not in {"prompt", "answer", "id"}]
    return RequestSummary(
        id=request.id,
        reason=request.reason,
        received=request.received or None,
        due=request.due,
        counts={name: len(rows) for name, rows in sets.items()},  # type: ignore[misc]  # SUBSETS are the Subset names
        fields=[name for name in names if any(getattr(row, name) for row in every)],
    )


def templates_of(findings: Mapping[Role, ModelFindings]) -> dict[str, Template]:
    """Return the chat templates that the models came with; empty where they were not asked alike."""
    known = {str(role): model.template for role, model in findings.items() if model.template is not None}
    return known if "before" in known else {}


def _of_template(template: Template) -> dict[str, Any]:
    """Return the hash of a chat template and how the model that came with it was asked."""
    return {
        "sha256": template.sha256,
        "asked": template.asked,
        "same tokenizer": template.same_tokenizer,
        "own tokenizer": template.own_tokenizer,
        "other config": list(template.config),
    }


def _held_back(verdict: Verdict, reason: str) -> Verdict:
    """Return the verdict, "inconclusive" in place of "pass" where there is a reason against passing."""
    if not reason or verdict.outcome != "pass":
        return verdict
    return verdict.model_copy(update={"outcome": "inconclusive", "words": f"{reason} {verdict.words}"})


def _settings(
    findings: Mapping[Role, ModelFindings],
    plan: AuditPlan,
    judge: Judge,
    checks: Sequence[Check],
    depth: Depth | None,
) -> dict[str, Any]:
    """Return the resolved settings with the ids of the drawn rows, and what else belongs to no other section."""
    rows = {name: [row.id for row in getattr(plan, name)] for name in DRAWN}
    quick = replace(plan.settings, seed=0) == QUICK
    detection = {role: asdict(model.detection) for role, model in findings.items() if model.detection}
    return {
        "audit": {**plain(asdict(plan.settings)), "quick": quick, "judge": judge.name, "rows": rows},
        "seconds": {role: dict(model.seconds) for role, model in findings.items()},
        "checks": plain([asdict(check) for check in checks]),
        "detection": plain(detection),
        "templates": plain({role: _of_template(one) for role, one in templates_of(findings).items()}),
        "depth": plain(asdict(depth)) if depth else None,
        "after_learning": plan.continuation.to_json() if plan.continuation else None,
    }


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
