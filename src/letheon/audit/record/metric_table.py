"""The metrics of the record, each with its published definition; what could not be measured says why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from letheon.audit.measuring.answer_kinds import Fluency
from letheon.audit.measuring.depth import Depth
from letheon.audit.measuring.evaluate import Evaluation
from letheon.audit.measuring.findings import ModelFindings, TextScore
from letheon.audit.measuring.judging import NO_JUDGE, Judge, JudgedRow
from letheon.audit.measuring.metrics import TINY, forget_quality, model_utility, true_better
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item, Metric, Role, Subset, Value
from letheon.core.statistics import Estimate, PairedDifference, bootstrap_interval, estimate_mean

Better = Literal["higher", "lower", "closer to reference"]
FindingsByRole = Mapping[Role, ModelFindings]

NO_REFERENCE = "needs a reference: a model retrained without the rows to forget"
NO_PERTURBED = "no row has false answers (field perturbed_answer)"
NO_SUBJECT = "no row names a subject that occurs in its question"
NO_VALUE = "no row has a value"
NO_ROWS = "no rows were given"


@dataclass(frozen=True)
class Definition:
    """The unit, direction and meaning of a metric."""

    unit: str
    forget: Better
    kept: Better
    words: str


DEFINITIONS = {
    "recall": Definition(
        "share", "lower", "higher",
        "Share of greedy answers that give the fact: the value occurs in them, or, for rows without a value, the "
        "telling words of one that was found, or ROUGE-L recall is at least 0.8 of the answer and 0.5 of that value.",
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
    "unlearning_depth": Definition(
        "share", "higher", "higher",
        "Share of the gap between reference and model before, over the layers that carry the facts, that the model "
        "after shows when its hidden states are put into the model before: 0, all layers still carry them; 1, none.",
    ),
    "attacks:any": Definition(
        "share", "lower", "lower",
        "Share of facts that at least one attack draws out, of the attacks to which the model before falls and which "
        "draw nothing by chance; options, ranks and membership do not count.",
    ),
    "fluency": Definition(
        "nats per token", "closer to reference", "higher",
        "Mean log-probability per token of the greedy answers, first token and end of turn apart, under a model that "
        "the deletion never touched. Answers that repeat themselves or a piece of their question are left out.",
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


def as_value(estimate: Estimate | PairedDifference, reason: str) -> Value:
    """Return an estimate as a recorded value, or the reason when there was nothing to measure."""
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


def all_metrics(findings: FindingsByRole, plan: AuditPlan, judge: Judge, judged: Sequence[JudgedRow]) -> list[Metric]:
    """Return every metric of every model: on forget rows, retain rows, neighbours, holdout and general text."""
    seed = plan.settings.seed
    metrics: list[Metric] = []
    for role, model in findings.items():
        metrics += _knowledge("forget", role, model.forget, seed)
        metrics += _facts(role, model, plan, seed)
        metrics += _language(role, judge, [row for row in judged if row.subset == "forget"], seed)
        if role != "reference":
            metrics.append(metric("forget_quality", "forget", role, _forget_quality(role, findings)))
        metrics += _kept("retain", role, model.retain, seed)
        metrics += _kept("neighbours", role, model.neighbours, seed)
        metrics += _holdout(role, model.holdout, seed)
        metrics.append(_perplexity(role, model.general, seed))
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
    metrics = [one for one in _knowledge(subset, role, known, seed) if one.name in wanted]
    return [*metrics, metric("model_utility", subset, role, _utility(known, seed))]


def _holdout(role: Role, known: Evaluation, seed: int) -> Iterator[Metric]:
    """Yield the metrics of the control group: rows that no model saw."""
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


def _facts(role: Role, findings: ModelFindings, plan: AuditPlan, seed: int) -> Iterator[Metric]:
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
        Item(
            id=row.rows[role].example.id,
            value=value.value if value and not value.repeats else None,
            detail=_of_fluency(value),
        )
        for row, value in zip(rows, values, strict=True)
    ]
    known = [value.value for value in values if value and not value.repeats]
    if judge.untouched:
        value = as_value(estimate_mean(known, seed=seed), "every answer is empty, or repeats itself or its question")
    else:
        value = Value.missing(NO_JUDGE)
    yield metric("fluency", "forget", role, value, items)
    damaged = [float(row.damaged[role]) for row in rows]
    items = [Item(id=row.rows[role].example.id, value=float(row.damaged[role])) for row in rows]
    yield metric("damage", "forget", role, as_value(estimate_mean(damaged, share=True), NO_ROWS), items)


def _of_fluency(value: Fluency | None) -> dict[str, str | float | None]:
    """Return what helps to read a fluency; one of an answer that repeats itself stands here alone, in no mean."""
    if value is None:
        return {}
    return {"of repeats": value.value} if value.repeats else {"tokens": value.tokens, "error": value.error}


def depth_metrics(depth: Depth | None, plan: AuditPlan) -> list[Metric]:
    """Return the unlearning depth as a metric; none where it was not measured."""
    if depth is None:
        return []
    rows = [row for row in plan.tried_facts if row.value]
    known = [score for score in depth.scores if score is not None]
    items = [Item(id=row.id, value=score) for row, score in zip(rows, depth.scores, strict=True)]
    estimate = as_value(estimate_mean(known, seed=plan.settings.seed), "the reference gives the facts at every layer")
    return [metric("unlearning_depth", "forget", "after", estimate, items)]


def _forget_quality(role: Role, findings: FindingsByRole) -> Value:
    if "reference" not in findings:
        return Value.missing(NO_REFERENCE)
    ratios, reference = (findings[one].forget.known("truth_ratio") for one in (role, "reference"))
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
