"""What relearning tells of one model: the most that came back, or how fast a single row is learned.

Equal steps of training move two models alike only where their weights are of like size, and a mark is one only where
the model that sets it has learned its rows; else the value is missing.
"""

from __future__ import annotations

import math

import numpy as np

from letheon.audit.record.evidence import Curve, Evidence, Role, Value

# Relearning has taught its rows where their loss (nats per token) is at most this share of what it was, or this low.
LEARNED, KNOWN = 0.5, math.log(2)
# A row that is trained on comes back in every model; what tells is how fast. Models that lie as near each other (by the
# mean probability of the words that carry its facts) tell nothing.
TOLD_APART = 0.05
# Steps by which a single row may be given back before the reference gives it.
STEPS_BEFORE = 1
# Share of the matrices that may differ in size from the model before's (see `Curve.rescaled`).
MOST_RESCALED = 0.1
ONLY_ROW = (
    "the only row is trained on and watched: a reference that learns it slower than the model before must show it"
)


def relearned_values(evidence: Evidence, model: Role, name: str) -> list[Value]:
    """Return what relearning on some rows (`forgotten`, `unrelated`) brought back in one model: a share per curve.

    It is missing where the model after's weights were rescaled, or the training taught the model nothing. Kept rows are
    mostly known from the start: that the training taught anything, the curve of the forgotten ones shows.
    """
    curves = [curve for curve in evidence.curves if curve.model == model and curve.points]
    chosen = [curve for curve in curves if curve.trained_on == name]
    if not chosen:
        return []
    taught = [curve for curve in curves if curve in chosen or curve.trained_on == "forgotten"]
    reasons = [why for curve in taught if (why := rescaled(curve) or unlearned(curve))]
    if reasons:
        return [Value.missing(reasons[0])]
    if any(curve.same_row for curve in chosen):
        return [of_the_only_row(model, curves_of_only_rows(evidence))]
    return [Value(value=max(point.recall for point in curve.points), n=curve.n) for curve in chosen]


def curves_of_only_rows(evidence: Evidence) -> dict[Role, Curve]:
    """Return each model's curve of the only row that is to be forgotten; none where there are several rows."""
    return {curve.model: curve for curve in evidence.curves if curve.same_row and len(curve.points) > 1}


def of_the_only_row(model: Role, curves: dict[Role, Curve]) -> Value:
    """Return where a model lies between the reference (0, or below it) and the model before (1).

    The mean probability of the words that carry the facts is compared, after the steps in which the reference goes half
    of its way, so that further steps change nothing. A model that gives the row back more than one step before the
    reference does counts as the model before (1), whatever its mean. The value is missing where the reference learns
    the row as fast as the model before, and where either did not learn it.
    """
    before, reference, own = curves.get("before"), curves.get("reference"), curves.get(model)
    if before is None or reference is None:
        return Value.missing(ONLY_ROW)
    if own is None:
        return Value.missing("relearning of the only row has no step")
    for curve, whose in ((reference, "the reference"), (before, "the model before")):
        if why := unlearned(curve):
            return Value.missing(f"{whose} is no mark of how fast the only row is learned: {why}")
    last = _half_way(reference)
    slow, fast, mean = (_mean_until(last, curve) for curve in (reference, before, own))
    if fast - slow < TOLD_APART:
        return Value.missing(ONLY_ROW)
    if _first_given(own) < _first_given(reference) - STEPS_BEFORE:
        return Value(value=1.0, n=1)
    return Value(value=max(0.0, (mean - slow) / (fast - slow)), n=1)


def _half_way(curve: Curve) -> int:
    """Return the first step of training by which a curve has gone half of its way from its first to its last value."""
    first, *later = curve.points
    half = (first.probability + later[-1].probability) / 2
    return next((point.step for point in later if point.probability >= half), later[-1].step)


def _mean_until(last: int, curve: Curve) -> float:
    """Return the mean probability after each step up to one of them."""
    return float(np.mean([point.probability for point in curve.points[1:] if point.step <= last]))


def _first_given(curve: Curve) -> float:
    """Return the first step after which the greedy answer gives the row, infinity where none does."""
    return next((float(point.step) for point in curve.points if point.recall >= 1), math.inf)


def unlearned(curve: Curve) -> str:
    """Return why relearning shows nothing: its model did not learn the rows that it was trained on; empty if it did.

    It learned them if at the last step their facts are likelier than not, token by token, or their loss has halved.
    """
    first, last = curve.points[0].trained_loss, curve.points[-1].trained_loss
    if first is None or last is None:
        return "uninformative: whether the model learned what it was trained on was not measured"
    if last <= max(LEARNED * first, KNOWN):
        return ""
    return (
        f"uninformative: the model did not learn what it was trained on (loss {first:.2f} before, {last:.2f} nats per "
        "token after; raise relearn_learning_rate or relearn_steps)"
    )


def rescaled(curve: Curve) -> str:
    """Return why equal steps do not move the model after as they move the others; empty where they do."""
    if curve.model != "after" or curve.rescaled <= MOST_RESCALED:
        return ""
    return (
        f"the weights of the model after were rescaled: {curve.rescaled:.0%} of its matrices are of another size than "
        "the model before's; equal steps of training move it less or more, and what they bring back tells nothing"
    )


def share_rescaled(before: dict[str, float], model: dict[str, float], factor: float = 1.5) -> float:
    """Return the share of the matrices that are larger or smaller by a factor than those before, 0 to 1.

    Those of the same name are compared. Where no name is shared the share is 1: nothing says then that equal steps move
    both alike.

    Args:
        before, model: size (RMS) of each matrix by its name; either is empty where sizes were not measured.
    """
    if not before or not model:
        return 0.0
    shared = [(before[name], model[name]) for name in before if name in model]
    far = [max(one, other) > factor * min(one, other) for one, other in shared]
    return sum(far) / len(far) if far else 1.0
