"""The record's sections, made from the models' measurements: answers, attacks, curves, rounded models.

A missing measurement becomes a value of null with its reason. Metrics: `metric_table`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from letheon.audit.attacks import ATTACKS
from letheon.audit.attacks import base as attacks
from letheon.audit.attacks.base import Attempt, TextualAttack, Tried, by_variant, success, worst_variant
from letheon.audit.attacks.relearning import RelearnPoint, steps_to
from letheon.audit.criterion_relearning import share_rescaled
from letheon.audit.criterion_values import KNOWING, ROUNDING, is_below
from letheon.audit.measuring.judging import JudgedRow
from letheon.audit.plan import AuditPlan
from letheon.audit.record.continued_learning import continued_section
from letheon.audit.record.evidence import (
    Achieved,
    Answer,
    Attack,
    AttackVariant,
    Continued,
    Curve,
    CurvePoint,
    Item,
    Quantised,
    Role,
    TrainedOn,
    Value,
    level_of,
)
from letheon.audit.record.metric_table import NO_ROWS, FindingsByRole, as_value
from letheon.audit.record.trained_forms import form_of


def all_answers(judged: Sequence[JudgedRow]) -> list[Answer]:
    """Return every question with the models' answers."""
    return [
        Answer(
            id=row.rows["after"].example.id,
            subset=row.subset,
            prompt=row.rows["after"].example.prompt,
            expected=row.rows["after"].example.answer,
            before=row.rows["before"].answer or "",
            after=row.rows["after"].answer or "",
            reference=row.rows["reference"].answer if "reference" in row.rows else None,
            kind=row.kind,
            fluency_before=_fluency(row, "before"),
            fluency_after=_fluency(row, "after"),
            fluency_reference=_fluency(row, "reference"),
        )
        for row in judged
    ]


def _fluency(row: JudgedRow, role: Role) -> float | None:
    fluency = row.fluency.get(role)
    return fluency.value if fluency else None


def all_attacks(findings: FindingsByRole, forms: tuple[str, ...] = ()) -> list[Attack]:
    """Return each attack that fits some rows of the model before or after, with its controls.

    Args:
        forms: of question in which the deletion trained.
    """
    roles: tuple[Role, ...] = ("before", "after")
    return [
        _attack(attack, findings, forms)
        for attack in ATTACKS
        if any(attack.name in findings[role].attacks for role in roles)
    ]


def _attack(attack: attacks.Attack, findings: FindingsByRole, forms: tuple[str, ...]) -> Attack:
    tried = {role: model.attacks[attack.name] for role, model in findings.items() if attack.name in model.attacks}
    values = {role: _drawn(attack, tried.get(role, [])) for role in findings}
    if "after" not in tried:
        values["after"] = Value.missing(f"the model after cannot be asked so: {attack.needs}")
    before, after, reference = values["before"], values["after"], values.get("reference")
    level = reference if recalls_little(findings) else None
    informative, outcome = achieved(before, after, level, attack.chance)
    return Attack(
        name=attack.name,
        description=attack.description,
        unit=attack.unit,
        chance=attack.chance,
        before=before,
        after=after,
        reference=reference,
        informative=informative,
        outcome=outcome,
        worst_variant=_worst_variant(tried.get("after", [])),
        trained_on=form_of(attack.name, forms),
        below=is_below(after, level, attack.chance),
        items=_attack_items(tried),
        variants=[variant for role, one in tried.items() for variant in _variants(role, one)],
    )


def recalls_little(findings: FindingsByRole) -> bool:
    """Say whether the reference, if there is one, can be a level; see `criterion_values.knowing_reference`."""
    known = {role: model.forget.known("recall") for role, model in findings.items()}
    recall = {role: sum(values) / len(values) if values else 0.0 for role, values in known.items()}
    return recall["before"] == 0 or recall.get("reference", 0.0) < KNOWING * recall["before"] - ROUNDING


def achieved(before: Value, after: Value, reference: Value | None, chance: float) -> tuple[bool, Achieved]:
    """Return whether an attack is informative, and its outcome; see the fields of `Attack`."""
    if not _least(before) > chance:
        return False, "uninformative"
    level = level_of(chance, reference)
    if after.value is None:
        return True, "undecided"
    if after.value > level:
        return True, "recovered" if chance == 0 or _least(after) > level else "undecided"
    can_tell = chance == 0 or _least(before) > level
    return can_tell, "resisted" if can_tell else "uninformative"


def _least(value: Value) -> float:
    """Return the lower end of the interval, or the value where there is none, or 0 where that is missing."""
    known = value.value if value.low is None else value.low
    return 0.0 if known is None else known


def _drawn(attack: attacks.Attack, tried: list[Attempt] | Tried) -> Value:
    if isinstance(tried, Tried):
        return as_value(tried.value, NO_ROWS)
    return as_value(success(tried, isinstance(attack, TextualAttack) and attack.worst), NO_ROWS)


def _worst_variant(tried: list[Attempt] | Tried) -> str | None:
    """Return the variant that draws most; None where nothing is drawn, or there are no variants."""
    if isinstance(tried, Tried) or not any(attempt.variant for attempt in tried):
        return None
    shares = by_variant(tried)
    worst = worst_variant(shares)
    return worst if shares[worst].value else None


def _attack_items(tried: Mapping[Role, list[Attempt] | Tried]) -> list[Item]:
    """Return per-row results of the model after; other models' results go into `detail`."""
    after = tried.get("after", [])
    if isinstance(after, Tried):
        others = {str(role): one.items for role, one in tried.items() if isinstance(one, Tried) and role != "after"}
        return [
            item.model_copy(
                update={"detail": {**item.detail, **{role: rows[i].value for role, rows in others.items()}}}
            )
            for i, item in enumerate(after.items)
        ]
    answers = {str(role): _by_question(one) for role, one in tried.items() if not isinstance(one, Tried)}
    return [
        Item(
            id=attempt.example.id,
            value=float(attempt.recovered),
            detail={
                "prompt": attempt.prompt,
                **({"variant": attempt.variant} if attempt.variant else {}),
                **{role: rows[question] for role, rows in answers.items() if question in rows},
            },
        )
        for question, attempt in zip(_by_question(after), after, strict=True)
    ]


def _by_question(tries: Sequence[Attempt]) -> dict[tuple[str, str, int], str]:
    """Return answers by row, prompt and the number of the try; a model may have been asked less than another."""
    seen: Counter[tuple[str, str]] = Counter()
    answers = {}
    for attempt in tries:
        key = (attempt.example.id, attempt.prompt)
        answers[(*key, seen[key])] = attempt.answer
        seen[key] += 1
    return answers


def _variants(role: Role, tried: list[Attempt] | Tried) -> list[AttackVariant]:
    if isinstance(tried, Tried):
        return [
            AttackVariant(name=one.name, model=role, value=as_value(one.value, NO_ROWS), roc=list(one.roc))
            for one in tried.variants
        ]
    if not any(attempt.variant for attempt in tried):
        return []
    return [
        AttackVariant(name=name, model=role, value=as_value(share, NO_ROWS))
        for name, share in by_variant(tried).items()
    ]


def all_curves(findings: FindingsByRole, plan: AuditPlan) -> list[Curve]:
    """Relearning of each model, on forgotten rows and on unrelated ones; none when the attack was left out."""
    before = findings["before"].relearning
    return [
        Curve(
            model=role,
            title=_trained_on(name, plan),
            trained_on=name,
            n=len(plan.watched),
            same_row=name == "forgotten" and plan.trained == plan.watched,
            rescaled=share_rescaled(findings["before"].sizes, model.sizes),
            points=[CurvePoint(**asdict(point)) for point in points],
            steps_to_half=_steps_to_half(points, before[name][0].recall),
        )
        for role, model in findings.items()
        for name, points in model.relearning.items()
    ]


def _trained_on(name: TrainedOn, plan: AuditPlan) -> str:
    if name == "unrelated":
        return f"{len(plan.unrelated)} kept rows that say nothing of them"
    if plan.watched == plan.trained:
        return "the same row, the only one"
    return f"{len(plan.trained)} of the {len(plan.facts)} forgotten rows"


def _steps_to_half(points: Sequence[RelearnPoint], recall_before: float) -> Value:
    """Steps until half of the recall that the model before starts with."""
    if recall_before == 0:
        return Value.missing("the model before gives none of the held-out facts")
    steps = steps_to(recall_before / 2, [(point.step, point.recall) for point in points])
    if steps is None:
        return Value.missing(f"not within {points[-1].step} steps")
    return Value(value=steps, n=len(points))


def all_continued(findings: FindingsByRole, plan: AuditPlan) -> list[Continued]:
    """Return the sections on continued learning; none where it was not asked for."""
    given = plan.continuation
    return [
        continued_section(role, model.continued, given, plan.settings.seed)
        for role, model in findings.items()
        if model.continued is not None and given is not None
    ]


def all_rounded(findings: FindingsByRole, seed: int) -> list[Quantised]:
    """Return the results of each rounded model on forget and retain rows."""
    return [
        Quantised(
            model=role,
            bits=one.grid.bits,
            group=one.grid.group,
            file_type=one.grid.file_type,
            forget_recall=as_value(one.forget.estimate("recall", seed), NO_ROWS),
            forget_probability=as_value(one.forget.estimate("probability", seed), NO_ROWS),
            retain_recall=as_value(one.retain.estimate("recall", seed), NO_ROWS),
            retain_probability=as_value(one.retain.estimate("probability", seed), NO_ROWS),
        )
        for role, model in findings.items()
        for one in model.rounded
    ]
