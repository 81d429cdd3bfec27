"""Warnings for the reader of an audit, and the measurements that are missing, with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from letheon.audit.attacks import ATTACKS
from letheon.audit.criterion_values import KNOWING, ROUNDING
from letheon.audit.measuring.continued_learning import subjects_taught
from letheon.audit.measuring.evaluate import Evaluation
from letheon.audit.measuring.findings import ModelFindings
from letheon.audit.measuring.judging import Judge
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Attack, Continued, Metric, level_of
from letheon.audit.record.metric_table import NO_REFERENCE, FindingsByRole
from letheon.core.errors import some_of_them
from letheon.forget.request import Request
from letheon.report.numbers import number

# A share of damaged answers, a loss of kept recall, and a rise of perplexity from which one speaks of collapse.
COLLAPSE_DAMAGE, COLLAPSE_RECALL, COLLAPSE_PERPLEXITY = 0.5, 0.5, 1.5
# Below this many rows a Kolmogorov-Smirnov test has few p-values to give.
FEW_ROWS = 30

# A fact is held if its value is this many times more probable than beside subjects that the model cannot know.
HELD = 2.0

LEFT_OUT = "left out by the settings"
OR_HOLDOUT = (
    "or give holdout rows (rows like the forgotten ones that no model saw) as a control group: `membership` is "
    "measured against them, and criteria may take the basis `times holdout` or `plus holdout`"
)


def warnings_of(
    findings: FindingsByRole,
    plan: AuditPlan,
    request: Request,
    judge: Judge,
    metrics: Sequence[Metric],
) -> list[str]:
    """Return the warnings of an audit in order of weight."""
    return [
        *_nothing_moved(findings),
        *_collapse(findings, metrics),
        *_rounded_away(findings),
        *_reference_knows(findings),
        *_not_held(findings, plan),
        *_limits_of_the_plan(plan, request, judge),
        *dict.fromkeys(note for model in findings.values() for note in model.notes),
    ]


def _nothing_moved(findings: FindingsByRole) -> Iterator[str]:
    before, after = findings["before"], findings["after"]
    if before.sha256 == after.sha256:
        yield "No weight moved: the models before and after are the same."
    elif _behaviour(before) == _behaviour(after):
        yield "The models before and after give the same likelihoods and answers on every row: nothing was changed."


def _behaviour(findings: ModelFindings) -> list[tuple[float, str | None]]:
    known = (findings.forget, findings.retain, findings.neighbours)
    return [(row.probability, row.answer) for evaluation in known for row in evaluation.rows]


def _collapse(findings: FindingsByRole, metrics: Sequence[Metric]) -> Iterator[str]:
    value = {(m.name, m.subset, m.model): m.value.value for m in metrics}
    damage = value.get(("damage", "forget", "after")) or 0.0
    if damage >= COLLAPSE_DAMAGE:
        yield f"Collapse: {damage:.0%} of the answers about the target are broken language. That is not forgetting."
    before, after = (value.get(("recall", "retain", role)) for role in ("before", "after"))
    if before and after is not None and after < COLLAPSE_RECALL * before:
        yield f"Collapse: recall of the retain rows fell from {before:.2f} to {after:.2f}."
    before, after = (value.get(("perplexity", "general", role)) for role in ("before", "after"))
    if before and after and after > COLLAPSE_PERPLEXITY * before:
        yield f"Collapse: perplexity of general text rose from {before:.1f} to {after:.1f}."


def _rounded_away(findings: FindingsByRole) -> Iterator[str]:
    """Rounding that wipes out what the model before was taught proves nothing about the deletion."""
    before = findings["before"]
    for one in before.rounded:
        for known, rounded, what in ((before.forget, one.forget, "forget"), (before.retain, one.retain, "keep")):
            if _recall(known) > 0 and rounded.rows and _recall(rounded) == 0:
                yield (
                    f"Rounding to {one.grid.bits} bits wipes out what the model before knew of the rows to {what}: "
                    "there it shows nothing about the deletion."
                )


def _recall(known: Evaluation) -> float:
    values = known.known("recall")
    return sum(values) / len(values) if values else 0.0


def _reference_knows(findings: FindingsByRole) -> Iterator[str]:
    if "reference" in findings and (recall := _recall(findings["reference"].forget)) > 0:
        yield (
            f"The reference gives {recall:.0%} of the facts: they are guessed or known from elsewhere, and it may not "
            "be the model that was meant."
        )
        if recall >= KNOWING * _recall(findings["before"].forget) - ROUNDING:
            yield "That is half or more of what the model before gives: limits and levels do without the reference."
    if _recall(findings["before"].forget) == 0:
        yield "The model before gives none of the facts: there was nothing to forget that this audit can see."


def never_held(before: ModelFindings, plan: AuditPlan) -> list[str]:
    """Return the ids of the forget rows that the model before never held, as far as the audit sees.

    It does not give the fact, and the value is at most twice as probable as beside unknown subjects (`HELD`). A row
    without that control is not judged.
    """
    facts, controls = (
        {row.id: value for row, value in zip(rows, values, strict=True)}
        for rows, values in (
            (plan.facts, before.value_probability), (plan.controls, before.control_probability),
        )
    )  # fmt: skip
    found = []
    for row in before.forget.rows:
        value, control = facts.get(row.example.id), controls.get(row.example.id)
        if row.recall == 0 and value is not None and control is not None and value <= HELD * control:
            found.append(row.example.id)
    return found


def _not_held(findings: FindingsByRole, plan: AuditPlan) -> Iterator[str]:
    """Name the forget rows that need no deletion, unless nothing at all is known, which is said elsewhere."""
    before = findings["before"]
    ids = never_held(before, plan)
    if ids and _recall(before.forget) > 0:
        yield (
            f"{len(ids)} of the {len(plan.forget)} forget rows were never held by the model before, as far as this "
            f"audit sees ({some_of_them(ids)}): it does not give the fact, and the value is at most twice as probable "
            "as beside names that it cannot know. They need no deletion."
        )


def _limits_of_the_plan(plan: AuditPlan, request: Request, judge: Judge) -> Iterator[str]:
    for name, rows, drawn in (
        ("retain", request.retain, plan.retain),
        ("neighbours", request.neighbours, plan.neighbours),
        ("holdout", request.holdout, plan.holdout),
    ):
        if len(drawn) < len(rows):
            yield f"{len(drawn)} of the {len(rows)} {name} rows were drawn (seed {plan.settings.seed}) and measured."
    if plan.settings.relearn_steps and plan.trained == plan.watched:
        yield "With a single row, relearning shows how fast that row is learnt, not what was hidden."
    if not judge.untouched:
        yield (
            f"Answers were judged by {judge.name}, which was trained on rows like these: only gross damage is "
            "detected. Give the model from before any training as the judge."
        )
    marked = [row.value is not None for row in plan.forget]
    unmarked = sum(row.value is not None for row in plan.facts) - sum(marked)
    if unmarked:
        yield f"{unmarked} of {len(marked)} rows did not mark their value: it was found (see value_probability)."
    if any(row.perturbed_answers for row in plan.forget) and len(plan.forget) < FEW_ROWS:
        yield f"With {len(plan.forget)} rows the p-value of the forget quality is coarse."


def warnings_of_learning(continued: Sequence[Continued], plan: AuditPlan) -> Iterator[str]:
    """Yield warnings on continued learning: what it brought back, and whether that could be seen at all."""
    by_role = {one.model: one for one in continued}
    if not continued or plan.continuation is None:
        return
    before, after = by_role["before"], by_role["after"]
    if (after.comes_back.low or 0.0) > 0:
        beside = f", of the reference {by_role['reference'].points[-1].forgotten_recall:.2f}"
        yield (
            f"Learning on {after.stream} brings the forgotten back: recall rises from "
            f"{after.points[0].forgotten_recall:.2f} to {after.points[-1].forgotten_recall:.2f}"
            f"{beside if 'reference' in by_role else ''}."
        )
    if before.points[0].forgotten_recall > 0 and before.points[-1].forgotten_recall == 0:
        yield (
            f"By the end of {before.stream} the model before has lost the facts as well: that they do not come back in "
            "the model after shows nothing there."
        )
    if taught := subjects_taught(plan, plan.continuation.stream):
        yield (
            f"{taught} training rows of {after.stream} name a subject of the forget rows: what comes back may have "
            "been taught anew."
        )


def warnings_of_attacks(attacks: Sequence[Attack]) -> Iterator[str]:
    """Yield warnings on attacks whose low values are weak evidence, or give something away."""
    trained: dict[str, list[str]] = {}
    for attack in attacks:
        if attack.trained_on and attack.informative:
            trained.setdefault(attack.trained_on, []).append(attack.name)
    for form, names in trained.items():
        listed = ", ".join(names)
        yield f"The deletion was trained on questions in this form ({form}): low values of {listed} are weak evidence."
    for attack in attacks:
        if attack.below and attack.informative:
            level = level_of(attack.chance, attack.reference)
            by = "chance" if attack.reference is None or attack.reference.value is None else "the reference"
            yield (
                f"{attack.name}: {number(attack.after.value)} lies below {number(level)} ({by}). That gives something "
                "away: an attacker excludes what the model avoids."
            )


def not_computable(findings: FindingsByRole, plan: AuditPlan, metrics: Sequence[Metric]) -> Mapping[str, str]:
    """Return the measurements that are missing, with the reason for each."""
    missing = {
        f"{m.name} ({m.subset})": m.value.reason or "" for m in metrics if m.model == "after" and m.value.value is None
    }
    for attack in ATTACKS:
        if attack.name not in findings["after"].attacks:
            skipped = attack.thorough and not plan.settings.thorough
            missing[f"attack {attack.name}"] = LEFT_OUT if skipped else attack.needs
    if not plan.retain:
        missing["kept knowledge (retain)"] = "the request has no retain rows"
    if not plan.neighbours:
        missing["kept knowledge (neighbours)"] = "the request has no neighbours"
    if not plan.settings.relearn_steps:
        missing["relearning"] = LEFT_OUT
    elif not plan.settings.thorough:
        missing["relearning on unrelated rows"] = LEFT_OUT
    elif not plan.unrelated:
        missing["relearning on unrelated rows"] = "the request has no retain rows"
    if "reference" not in findings:
        missing["negative controls"] = NO_REFERENCE if plan.holdout else f"{NO_REFERENCE}; {OR_HOLDOUT}"
    return missing
