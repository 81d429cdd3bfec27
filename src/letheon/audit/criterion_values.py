"""The value that a criterion judges, read from the evidence for one model, and whether it can show anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from letheon.audit.criteria import Criterion
from letheon.audit.criterion_relearning import relearned_values
from letheon.audit.record.evidence import Attack, Evidence, Item, Metric, Role, Value, level_of
from letheon.core.statistics import bootstrap_interval, estimate_mean

AnyEvidence = TypeVar("AnyEvidence", bound=Evidence)
ROLE_NAMES: dict[Role, str] = {
    "before": "the model before",
    "after": "the model after",
    "reference": "a reference",
}
ROUNDING = 1e-9  # 0.95 x 1.0 and 0.95 differ in the last bit
# Measurements of recall, which say something about the forget rows only where the model before recalls them.
ARM = 1.96  # standard errors from an estimate to the end of its 95 % interval
PAIRED = {"fluency", "perplexity"}
FEW_ROWS = 3  # with fewer the differences between rows say little of how much rows differ
COMPARED = 1 / 3  # least share of the answers that two models must both have a fluency for
LEAST_TOKENS = 5  # judged tokens of an answer whose fluency is that of language, and not of a name
OF_NAMES = "the model before or the reference answers more than two thirds of the questions with names or a few words"
KNOWING = 0.5  # of what the model before recalls: a reference that recalls so much was not kept from the rows
BESIDE_REFERENCE = {"forget_quality", "unlearning_depth"}  # metrics of a model that are computed with the reference
# What a measurement takes that a request may not have.
NEEDS = {
    "attack:membership": ": it takes rows that no model saw (--holdout)",
    "attack:text_begun": ": it takes running text with facts to ask for",
}
RECALL_KINDS = {"attack", "attacks", "quantised", "relearn", "after_learning", "recall"}


def knowing_reference(evidence: Evidence) -> str:
    """Return why the reference is no control: it recalls half or more of what the model before recalls; else empty."""
    recall = [evidence.metric("recall", "forget", role) for role in ("before", "reference")]
    before, reference = (one.value.value if one else None for one in recall)
    if not before or reference is None or reference < KNOWING * before - ROUNDING:
        return ""
    return f"the reference gives {reference:.0%} of the facts, so that it counts as not measured"


def usable(evidence: AnyEvidence) -> AnyEvidence:
    """Return the evidence without its reference where that knows the facts; see `knowing_reference`."""
    reason = knowing_reference(evidence)
    if not reason:
        return evidence
    none = Value.missing(reason)

    def without(metric: Metric) -> Metric:
        bare = metric.model == "reference" or metric.name in BESIDE_REFERENCE
        return metric.model_copy(update={"value": none, "items": []}) if bare else metric

    return evidence.model_copy(
        update={
            "metrics": [without(metric) for metric in evidence.metrics],
            "attacks": [attack.model_copy(update={"reference": none}) for attack in evidence.attacks],
            "curves": [curve for curve in evidence.curves if curve.model != "reference"],
            "quantised": [one for one in evidence.quantised if one.model != "reference"],
            "continued": [one for one in evidence.continued if one.model != "reference"],
        }
    )


def on_common_rows(evidence: AnyEvidence, names: bool = False) -> AnyEvidence:
    """Return the evidence with the fluency of the model after, and of that which it is compared with, on the same rows.

    Answers that repeat themselves or their question, or are one token long, have none; a mean over the other rows would
    be that of other questions. Where too few rows are left, fluency counts as not measured. Rows that are left out stay
    in the evidence without a value, so that the request's rows can be counted.

    Args:
        names: whether questions are left out that the model before or the reference answers with a name or a few words:
            how probable such an answer is tells which name it is, and models that were retrained twice differ by nats.
    """
    found = {role: evidence.metric("fluency", "forget", role) for role in ROLE_NAMES}
    after, other = found["after"], found["reference"]
    if other is None or other.value.value is None:
        other = found["before"]
    if after is None or other is None or not after.items or not other.items or after.value.value is None:
        return evidence
    known, levels = _of_items(after), _of_items(other)
    told = (other, found["before"]) if names else ()
    short = {item.id for metric in told if metric for item in metric.items if _is_short(item)}
    common = [name for name in known if name in levels and name not in short]
    least = COMPARED * len(after.items)
    if len(common) == len(known) == len(levels) and len(common) >= least:
        return evidence
    of_names = len(after.items) - len(short) < least <= len(known)

    def on_rows(metric: Metric, values: dict[str, float]) -> Metric:
        few = "fewer than a third of the answers can be compared: the others are one token, or repeat themselves or "
        few += "their question"
        mean = estimate_mean([values[name] for name in common])
        missing = mean.value is None or len(common) < least
        reason = OF_NAMES if of_names else few
        value = Value.missing(reason) if missing else Value(value=mean.value, low=mean.low, high=mean.high, n=mean.n)
        items = [i if i.id in common else i.model_copy(update={"value": None}) for i in metric.items]
        return metric.model_copy(update={"value": value, "items": items})

    changed = {id(after): on_rows(after, known), id(other): on_rows(other, levels)}
    return evidence.model_copy(update={"metrics": [changed.get(id(one), one) for one in evidence.metrics]})


def _is_short(item: Item) -> bool:
    """Whether an answer is a name or a few words; records of earlier versions do not tell."""
    tokens = item.detail.get("tokens")
    return isinstance(tokens, float | int) and tokens < LEAST_TOKENS


def _of_items(metric: Metric) -> dict[str, float]:
    return {item.id: item.value for item in metric.items if item.value is not None}


def measured(criterion: Criterion, model: Role, evidence: Evidence) -> Value:
    """Return the value of a criterion's metric for one model, or a `Value` with the reason why there is none.

    A metric that was measured several times (several grids, curves, streams) gives its worst value.
    """
    kind, _, name = criterion.metric.partition(":")
    if kind == "attack" and name == "*":
        return worst_attack(evidence, model)[0]
    if kind == "after_learning" and not evidence.continued:
        return Value.missing("no stream was learned after the deletion (--after-learning)")
    values = [value for value in _values(criterion, model, evidence) if value is not None]
    if not values:
        missing = f"{criterion.metric} ({criterion.subset}) was not measured for {ROLE_NAMES[model]}"
        return Value.missing(missing + NEEDS.get(criterion.metric, ""))
    return _worst(values, criterion)


def _values(criterion: Criterion, model: Role, evidence: Evidence) -> list[Value | None]:
    """Return every measurement of the criterion's metric for one model."""
    kind, _, name = criterion.metric.partition(":")
    forget = criterion.subset == "forget"
    match kind:
        case "attack":
            return [attack.of(model) for attack in evidence.attacks if attack.name == name]
        case "quantised":
            rounded = [q for q in evidence.quantised if q.model == model and name in (str(q.bits), q.file_type)]
            return [q.forget_recall if forget else q.retain_recall for q in rounded]
        case "relearn":
            return [*relearned_values(evidence, model, name or "forgotten")]
        case "after_learning":
            streams = [stream for stream in evidence.continued if stream.model == model]
            return [stream.highest if forget else stream.kept_lowest for stream in streams]
        case _:
            metric = evidence.metric(criterion.metric, criterion.subset, model)
            return [metric.value if metric else None]


def paired_interval(criterion: Criterion, value: Value, evidence: Evidence, basis: str) -> Value:
    """Return the value with the interval of its difference from the basis, row by row, where that can be had.

    The same rows are measured on both models, so the difference varies less than either value. That holds for metrics
    in nats or for the perplexity; of shares, whose rows mostly agree, the value's own interval is kept. Of a
    request of one or two rows little is told of how rows differ: there the interval is at least that of the means over
    their tokens. Rows that cannot be compared count as rows.

    Args:
        basis: of the limit that is in force, the criterion's own or a fallback.
    """
    role: Role | None = {"before": "before", "reference": "reference"}.get(basis.rpartition(" ")[2])  # type: ignore[assignment]  # str keys
    if criterion.metric not in PAIRED or role is None or value.value is None:
        return value
    metrics = [evidence.metric(criterion.metric, criterion.subset, model) for model in ("after", role)]
    items = [{item.id: item for item in metric.items if item.value is not None} if metric else {} for metric in metrics]
    both = [(one, items[1][name]) for name, one in items[0].items() if name in items[1]]
    few = metrics[0] is not None and len(metrics[0].items) < FEW_ROWS
    error = _error_of_tokens(both) if few else None
    if len(both) < 2 and error is None:
        return value
    numbers = np.array([(one.value, other.value) for one, other in both], dtype=float)
    logs = np.log(numbers) if criterion.metric == "perplexity" else numbers
    differences = logs[:, 0] - logs[:, 1]
    ends = bootstrap_interval(differences.tolist())
    if ends is None and error is None:
        return value
    below, above = (end - float(differences.mean()) for end in ends or (differences.mean(),) * 2)
    if error is not None:
        below, above = min(below, -ARM * error), max(above, ARM * error)
    if criterion.metric == "perplexity":
        low, high = value.value * math.exp(below), value.value * math.exp(above)
    else:
        low, high = value.value + below, value.value + above
    return value.model_copy(update={"low": min(low, value.value), "high": max(high, value.value)})


def _error_of_tokens(pairs: Sequence[tuple[Item, Item]]) -> float | None:
    """Return the standard error of the mean difference of rows that follows from their tokens; None if it is unknown.

    Records of earlier versions do not tell, and perplexity has none.
    """
    errors = [item.detail.get("error") for pair in pairs for item in pair]
    known = [float(error) for error in errors if isinstance(error, float | int)]
    return math.hypot(*known) / len(pairs) if known and len(known) == len(errors) else None


def _worst(values: list[Value], criterion: Criterion) -> Value:
    """Return the value furthest on the wrong side; a missing one comes first, since it cannot be judged."""
    missing = [value for value in values if value.value is None]
    if missing:
        return missing[0]
    pick = min if criterion.comparison == ">=" else max
    return pick(values, key=lambda value: value.value if value.value is not None else 0.0)


def worst_attack(evidence: Evidence, model: Role) -> tuple[Value, str]:
    """Return the excess of the strongest informative attack over its level, and that attack's name.

    See `excess`. Attacks that were not measured on the model are passed over; `unmeasured_attacks` names them. The
    reference's own excess is 0.
    """
    attacks = [attack for attack in evidence.attacks if attack.informative]
    if not attacks:
        return Value.missing("no attack was run to which the model before falls"), ""
    if model == "reference":
        if all(attack.reference is None or attack.reference.value is None for attack in attacks):
            return Value.missing(f"no attack was run on {ROLE_NAMES[model]}"), ""
        return Value(value=0.0), ""
    excesses = [(excess(attack, model), attack.name) for attack in attacks]
    known = [(value, name) for value, name in excesses if value.value is not None]
    return max(known, key=lambda one: one[0].value or 0.0) if known else excesses[0]


def unmeasured_attacks(evidence: Evidence) -> list[str]:
    """Return the attacks to which the model before falls and which could not be measured on the model after."""
    return [attack.name for attack in evidence.attacks if attack.informative and attack.after.value is None]


def excess(attack: Attack, model: Role) -> Value:
    """Return an attack's value minus its level; the ends of the interval are shifted alike.

    The level is the reference's value, or chance where there is no reference. For an attack with a chance level above
    0 one standard error is taken off: half of all models without any knowledge lie above chance, and the lower end of a
    95 % interval of five rows would clear nearly every model.
    """
    value = attack.of(model)
    if value is None or value.value is None:
        return value or Value.missing(f"attack {attack.name} was not run on {ROLE_NAMES[model]}")
    off = level_of(attack.chance, attack.reference)
    if attack.chance > 0 and value.low is not None:
        off += (value.value - value.low) / ARM
    low, high = (None if end is None else end - off for end in (value.low, value.high))
    return Value(value=value.value - off, low=low, high=high, n=value.n)


def is_below(after: Value, reference: Value | None, chance: float) -> bool:
    """Say whether a model gives less than one that never knew, by more than one standard error."""
    if after.value is None or after.high is None:
        return False
    return after.value + (after.high - after.value) / ARM < level_of(chance, reference) - ROUNDING


def trained_on(criterion: Criterion, evidence: Evidence) -> str:
    """Return the form of question in which the deletion trained and the criterion's attack asks; empty for none."""
    name = criterion.metric.removeprefix("attack:")
    return next((one.trained_on for one in evidence.attacks if one.name == name and one.trained_on), "")


def only_before(criterion: Criterion, evidence: Evidence) -> bool:
    """Say whether the model before could be measured, with a test that shows something, and the model after could not.

    Whoever changes the model can take away its chat template, or make it refuse: such a criterion is not set aside.
    """
    values = [measured(criterion, model, evidence).value for model in ("before", "after")]
    return values[0] is not None and values[1] is None and not uninformative(criterion, evidence)


def uninformative(criterion: Criterion, evidence: Evidence) -> str:
    """Return why this criterion can show nothing about the deletion; empty when it can.

    Recall of the forget rows, by whatever means, says something only if the same means find it in the model before.
    Recall of the retained rows says something only if there was some.
    """
    kind, _, name = criterion.metric.partition(":")
    if kind == "attack" and name != "*" and any(a.name == name and not a.informative for a in evidence.attacks):
        return "uninformative: the model before the deletion withstands this attack too"
    before = measured(criterion, "before", evidence)
    if kind in RECALL_KINDS and criterion.subset == "forget":
        if before.value is None:
            return f"no positive control: {before.reason}"
        if before.value <= ROUNDING:
            return "uninformative: the model before the deletion does not give the facts here either"
    if criterion.comparison == ">=" and criterion.basis == "times before" and before.value == 0:
        return "uninformative: the model before the deletion had none of it to keep"
    return ""


def chance_of(criterion: Criterion, evidence: Evidence) -> float:
    """Return the chance level of the attack that a criterion names: 0 for a share of facts and for other metrics."""
    names = {attack.name: attack.chance for attack in evidence.attacks}
    return names.get(criterion.metric.removeprefix("attack:"), 0.0)
