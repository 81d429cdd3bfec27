"""From findings to the parts of the record: metrics, answers, attacks, curves, rounded models.

A measurement that is not there becomes a value of null with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from letheon.audit.attacks import ATTACKS
from letheon.audit.attacks import base as attacks
from letheon.audit.attacks.base import Attempt, Textual, Tried, success
from letheon.audit.attacks.relearning import RelearnPoint, steps_to
from letheon.audit.continued import evidence_of
from letheon.audit.evaluate import Evaluation
from letheon.audit.evidence import (
    Achieved,
    Answer,
    Attack,
    AttackVariant,
    Continued,
    Curve,
    CurvePoint,
    Item,
    Metric,
    Quantised,
    Role,
    Subset,
    TrainedOn,
    Value,
    level_of,
)
from letheon.audit.findings import Findings, TextScore
from letheon.audit.judging import NO_JUDGE, Judge, JudgedRow
from letheon.audit.metrics import TINY, forget_quality, model_utility, true_better
from letheon.audit.plan import Plan
from letheon.core.statistics import Estimate, bootstrap_interval, estimate_mean

Better = Literal["higher", "lower", "closer to reference"]
Found = Mapping[Role, Findings]

NO_REFERENCE = "needs a reference: a model retrained without the rows to forget"
NO_PERTURBED = "no row has false answers (field perturbed_answer)"
NO_SUBJECT = "no row names a subject that occurs in its question"
NO_VALUE = "no row has a value"
NO_ROWS = "no rows were given"


@dataclass(frozen=True)
class Definition:
    """What a metric is called, measured in, and means."""

    unit: str
    forget: Better
    kept: Better
    words: str


DEFINITIONS = {
    "recall": Definition(
        "share", "lower", "higher",
        "Share of greedy answers that give the fact: the value occurs in them, or, for rows without a value, their "
        "ROUGE-L recall of the expected answer is at least 0.8.",
    ),
    "rouge_l_recall": Definition(
        "share", "closer to reference", "higher",
        "Words of the expected answer that the greedy answer gives in the same order (stemmed), mean over rows.",
    ),
    "probability": Definition(
        "probability", "closer to reference", "higher",
        "exp of the mean log-probability per token of the expected answer, end of turn included, mean over rows.",
    ),
    "value_probability": Definition(
        "probability", "lower", "higher",
        "exp of the mean log-probability of the tokens that carry the fact, mean over rows.",
    ),
    "control_probability": Definition(
        "probability", "closer to reference", "closer to reference",
        "The same tokens when the subject is replaced by names that no model knows: the level of never having known.",
    ),
    "exact_memorization": Definition(
        "share", "lower", "higher",
        "Share of answer tokens that are the model's first choice given the answer before them, mean over rows.",
    ),
    "extraction_strength": Definition(
        "share", "lower", "higher",
        "Share of the answer that the model completes by itself, given the least beginning from which it does.",
    ),
    "truth_ratio": Definition(
        "ratio", "closer to reference", "higher",
        "R = probability of the false answers over that of the right one; mean of min(R, 1/R) on forgotten rows (1: "
        "true and false look alike), of max(0, 1 - R) on kept ones.",
    ),
    "forget_quality": Definition(
        "p-value", "higher", "higher",
        "Two-sided Kolmogorov-Smirnov test between the truth ratios of this model and of the reference.",
    ),
    "fluency": Definition(
        "nats per token", "closer to reference", "higher",
        "Mean log-probability per token of the greedy answers, first token and end of turn apart, under a model that "
        "the deletion never touched.",
    ),
    "damage": Definition(
        "share", "lower", "lower",
        "Share of greedy answers that are empty, loops, or more than a factor of three less probable per token to "
        "that model than what the models before and reference answer.",
    ),
    "model_utility": Definition(
        "index", "higher", "higher",
        "Harmonic mean of probability, ROUGE-L recall and (where there are false answers) truth ratio on these rows.",
    ),
    "perplexity": Definition(
        "perplexity", "lower", "lower", "exp of the mean negative log-likelihood per token of general prose."
    ),
}  # fmt: skip


def as_value(estimate: Estimate, reason: str) -> Value:
    """A recorded value of an estimate; the reason counts when there was nothing to measure."""
    if estimate.value is None:
        return Value.missing(reason)
    return Value(value=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n)


def metric(name: str, subset: Subset, model: Role, value: Value, items: Iterable[Item] = ()) -> Metric:
    """A recorded metric with its published definition."""
    definition = DEFINITIONS[name]
    better: Better = definition.forget if subset == "forget" else definition.kept
    if subset == "holdout":  # rows that no model saw: neither to be forgotten nor to be kept
        better = "closer to reference"
    return Metric(
        name=name,
        subset=subset,
        model=model,
        value=value,
        unit=definition.unit,
        better=better,
        definition=definition.words,
        items=list(items),
    )


# Metrics ----------------------------------------------------------------------------------------------------------


def all_metrics(found: Found, plan: Plan, judge: Judge, judged: Sequence[JudgedRow]) -> list[Metric]:
    """Every metric of every model: the forgotten first, then the kept, the neighbours, and language in general."""
    seed = plan.settings.seed
    metrics: list[Metric] = []
    for role, findings in found.items():
        metrics += _knowledge("forget", role, findings.forget, seed)
        metrics += _facts(role, findings, plan, seed)
        metrics += _language(role, judge, [row for row in judged if row.subset == "forget"], seed)
        if role != "reference":
            metrics.append(metric("forget_quality", "forget", role, _forget_quality(role, found)))
        metrics += _kept("retain", role, findings.retain, seed)
        metrics += _kept("neighbours", role, findings.neighbours, seed)
        metrics += _holdout(role, findings.holdout, seed)
        metrics.append(_perplexity(role, findings.general, seed))
    return metrics


def _knowledge(subset: Subset, role: Role, known: Evaluation, seed: int) -> Iterator[Metric]:
    for name in ("recall", "rouge_l_recall", "probability", "exact_memorization", "extraction_strength"):
        items = [
            Item(id=row.example.id, value=getattr(row, name), detail={"answer": row.answer} if name == "recall" else {})
            for row in known.rows
        ]
        yield metric(name, subset, role, as_value(known.estimate(name, seed), NO_ROWS), items)
    yield _truth_ratio(subset, role, known, seed)


def _truth_ratio(subset: Subset, role: Role, known: Evaluation, seed: int) -> Metric:
    """The aggregate of this set with an interval; the items are the ratios themselves."""
    part: Callable[[float], float] = (
        _nearness if subset in ("forget", "holdout") else (lambda ratio: true_better([ratio]))
    )
    estimate = estimate_mean([part(ratio) for ratio in known.known("truth_ratio")], seed=seed)
    items = [Item(id=row.example.id, value=row.truth_ratio) for row in known.rows if row.perturbed]
    return metric("truth_ratio", subset, role, as_value(estimate, NO_PERTURBED), items)


def _nearness(ratio: float) -> float:
    return min(ratio, 1 / (ratio + TINY))


def _kept(subset: Subset, role: Role, known: Evaluation, seed: int) -> list[Metric]:
    if not known.rows:
        return []
    wanted = {"recall", "rouge_l_recall", "probability", "truth_ratio"}
    found = [one for one in _knowledge(subset, role, known, seed) if one.name in wanted]
    return [*found, metric("model_utility", subset, role, _utility(known, seed))]


def _holdout(role: Role, known: Evaluation, seed: int) -> Iterator[Metric]:
    """The control group: what a model gives of rows that it never saw."""
    if not known.rows:
        return
    yield from _knowledge("holdout", role, known, seed)
    if known.known("value_probability"):
        items = [Item(id=row.example.id, value=row.value_probability) for row in known.rows]
        yield metric(
            "value_probability", "holdout", role, as_value(known.estimate("value_probability", seed), NO_VALUE), items
        )


def _utility(known: Evaluation, seed: int) -> Value:
    """Harmonic mean over the parts that these rows allow, with the bootstrap interval over rows."""
    columns = [known.known("probability"), known.known("rouge_l_recall")]
    ratios = known.known("truth_ratio")
    if len(ratios) == len(known.rows):
        columns.append([true_better([ratio]) for ratio in ratios])
    table = np.array(columns)
    value = model_utility(table.mean(1).tolist())

    def of_rows(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        parts = table[:, drawn.astype(int)].mean(-1)
        return len(table) / np.sum(1 / np.maximum(parts, np.finfo(float).tiny), axis=0)

    low, high = bootstrap_interval(list(range(table.shape[1])), of_rows, seed=seed) or (None, None)
    return Value(value=value, low=low, high=high, n=table.shape[1])


def _facts(role: Role, findings: Findings, plan: Plan, seed: int) -> Iterator[Metric]:
    measured = (
        ("value_probability", plan.facts, findings.value_probability, NO_VALUE),
        ("control_probability", plan.controls, findings.control_probability, NO_SUBJECT),
    )
    for name, rows, values, reason in measured:
        known = [value for value in values if value is not None]
        items = [
            Item(id=row.id, value=value, detail={"value": row.value}) for row, value in zip(rows, values, strict=True)
        ]
        yield metric(name, "forget", role, as_value(estimate_mean(known, seed=seed), reason), items)


def _language(role: Role, judge: Judge, rows: Sequence[JudgedRow], seed: int) -> Iterator[Metric]:
    values = [row.fluency[role] for row in rows]
    items = [
        Item(id=row.rows[role].example.id, value=value.value if value else None)
        for row, value in zip(rows, values, strict=True)
    ]
    known = [value.value for value in values if value]
    if judge.untouched:
        value = as_value(estimate_mean(known, seed=seed), "every answer is empty")
    else:
        value = Value.missing(NO_JUDGE)
    yield metric("fluency", "forget", role, value, items)
    damaged = [float(row.damaged[role]) for row in rows]
    items = [Item(id=row.rows[role].example.id, value=float(row.damaged[role])) for row in rows]
    yield metric("damage", "forget", role, as_value(estimate_mean(damaged, share=True), NO_ROWS), items)


def _forget_quality(role: Role, found: Found) -> Value:
    if "reference" not in found:
        return Value.missing(NO_REFERENCE)
    ratios, reference = (found[one].forget.known("truth_ratio") for one in (role, "reference"))
    if not ratios:
        return Value.missing(NO_PERTURBED)
    return Value(value=forget_quality(ratios, reference), n=len(ratios))


def _perplexity(role: Role, texts: Sequence[TextScore], seed: int) -> Metric:
    nll, tokens = np.array([text.nll for text in texts]), np.array([text.tokens for text in texts])

    def of_texts(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        chosen = drawn.astype(int)
        return np.exp(nll[chosen].sum(axis) / tokens[chosen].sum(axis))

    if not texts:
        return metric("perplexity", "general", role, Value.missing("no text of two tokens or more"))
    value = float(np.exp(nll.sum() / tokens.sum()))
    low, high = bootstrap_interval(list(range(len(texts))), of_texts, seed=seed) or (None, None)
    items = [Item(id=text.id, value=float(np.exp(text.nll / text.tokens))) for text in texts]
    return metric("perplexity", "general", role, Value(value=value, low=low, high=high, n=len(texts)), items)


# Answers, attacks, curves, rounding -------------------------------------------------------------------------------


def all_answers(judged: Sequence[JudgedRow]) -> list[Answer]:
    """Every question with the models' answers."""
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
    found = row.fluency.get(role)
    return found.value if found else None


def all_attacks(found: Found) -> list[Attack]:
    """Each attack that had rows to try, with its controls."""
    return [_attack(attack, found) for attack in ATTACKS if attack.name in found["after"].attacks]


def _attack(attack: attacks.Attack, found: Found) -> Attack:
    tried = {role: findings.attacks[attack.name] for role, findings in found.items() if attack.name in findings.attacks}
    values = {role: _drawn(attack, tried.get(role, [])) for role in found}
    informative, outcome = achieved(values["before"], values["after"], values.get("reference"), attack.chance)
    return Attack(
        name=attack.name,
        description=attack.description,
        unit=attack.unit,
        chance=attack.chance,
        before=values["before"],
        after=values["after"],
        reference=values.get("reference"),
        informative=informative,
        outcome=outcome,
        items=_attack_items(tried),
        variants=[variant for role, one in tried.items() for variant in _variants(role, one)],
    )


def achieved(before: Value, after: Value, reference: Value | None, chance: float) -> tuple[bool, Achieved]:
    """Whether an attack shows anything, and what it achieved; see the fields of `Attack`."""
    if not _least(before) > chance:
        return False, "uninformative"
    if not (after.value or 0.0) > level_of(chance, reference):
        return True, "resisted"
    return True, "recovered" if chance == 0 or _least(after) > chance else "undecided"


def _least(value: Value) -> float:
    """The lower end of the interval, the value where there is none, nothing where that is missing."""
    known = value.value if value.low is None else value.low
    return 0.0 if known is None else known


def _drawn(attack: attacks.Attack, tried: list[Attempt] | Tried) -> Value:
    if isinstance(tried, Tried):
        return as_value(tried.value, NO_ROWS)
    return as_value(success(tried, isinstance(attack, Textual) and attack.worst), NO_ROWS)


def _attack_items(tried: Mapping[Role, list[Attempt] | Tried]) -> list[Item]:
    """The rows of the model after, with what the others gave beside."""
    after = tried["after"]
    if isinstance(after, Tried):
        others = {str(role): one.items for role, one in tried.items() if isinstance(one, Tried) and role != "after"}
        return [
            item.model_copy(
                update={"detail": {**item.detail, **{role: rows[i].value for role, rows in others.items()}}}
            )
            for i, item in enumerate(after.items)
        ]
    answers = {str(role): one for role, one in tried.items() if not isinstance(one, Tried)}
    return [
        Item(
            id=attempt.example.id,
            value=float(attempt.recovered),
            detail={"prompt": attempt.prompt, **{role: rows[i].answer for role, rows in answers.items()}},
        )
        for i, attempt in enumerate(after)
    ]


def _variants(role: Role, tried: list[Attempt] | Tried) -> list[AttackVariant]:
    if not isinstance(tried, Tried):
        return []
    return [
        AttackVariant(name=one.name, model=role, value=as_value(one.value, NO_ROWS), roc=list(one.roc))
        for one in tried.variants
    ]


def all_curves(found: Found, plan: Plan) -> list[Curve]:
    """Relearning of each model, on forgotten rows and on unrelated ones; none when the attack was left out."""
    before = found["before"].relearning
    return [
        Curve(
            model=role,
            title=_trained_on(name, plan),
            trained_on=name,
            n=len(plan.watched),
            points=[CurvePoint(step=p.step, probability=p.probability, recall=p.recall) for p in points],
            steps_to_half=_steps_to_half(points, before[name][0].recall),
        )
        for role, findings in found.items()
        for name, points in findings.relearning.items()
    ]


def _trained_on(name: TrainedOn, plan: Plan) -> str:
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


def all_continued(found: Found, plan: Plan) -> list[Continued]:
    """What continued learning brought back and cost; none when it was not asked for."""
    given = plan.continuation
    return [
        evidence_of(role, findings.continued, given, plan.settings.seed)
        for role, findings in found.items()
        if findings.continued is not None and given is not None
    ]


def all_rounded(found: Found, seed: int) -> list[Quantised]:
    """What each rounded model knows of the forgotten and of the kept."""
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
        for role, findings in found.items()
        for one in findings.rounded
    ]
