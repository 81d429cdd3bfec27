"""The equations of the lifelong memory as pure functions.

Paper:   Lerma-Torres, Human-Like Lifelong Memory, arXiv 2603.29023, a position paper without equations or experiments.
Differs: every equation below is [inferred]: one reading that satisfies the components which the paper names. Spreading
         activation follows Collins and Loftus (1975), base levels follow ACT-R (Anderson and Schooler 1991).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

State = Literal["known", "likely", "unsure", "unknown"]
Vector = Float[np.ndarray, " n"]


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute the cosine of two vectors; it is 0 where one of them is zero."""
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.dot(first, second)) / norms if norms > 0 else 0.0


def novelty(cosines: Sequence[float]) -> float:
    """Compute 1 - max_i cos(e_x, e_i), clipped to [0, 1]; an empty memory finds everything new [inferred]."""
    return min(1.0, max(0.0, 1.0 - max(cosines, default=0.0)))


def gate_score(
    salience: Sequence[float], weights: Sequence[float], goal: float, goal_weight: float, bias: float
) -> float:
    """Compute sigmoid(a.v' + b goal - c), the score by which the gateway drops or stores an item [inferred].

    Args:
        salience: v', the size of pleasantness and arousal, urgency, novelty, trust.
        weights: a, one per term of the salience.
        goal: match with the present goal, 0 to 1; `goal_weight` is b and `bias` is c.
    """
    return 1.0 / (1.0 + math.exp(-(float(np.dot(salience, weights)) + goal_weight * goal - bias)))


def precision_after(precision: float, feedback: float, rate: float) -> float:
    """Move a precision by feedback r in [-1, 1]: pi + eta r (1 - pi) if r > 0, pi + eta r pi if r < 0 [inferred]."""
    return precision + rate * feedback * (1.0 - precision if feedback > 0 else precision)


def initial_activation(cosines: Vector, precision: Vector, mood_match: Vector, mood_weight: float) -> Vector:
    """Compute A(0) = max(0, cos(e_q, e_i)) pi_i (1 + beta cos(v_now, v_i)) per memory [inferred]."""
    return np.maximum(0.0, cosines) * precision * (1.0 + mood_weight * mood_match)


def spread(
    initial: Vector,
    origins: Int[np.ndarray, " links"],
    targets: Int[np.ndarray, " links"],
    weights: Float[np.ndarray, " links"],
    share: float,
    hops: int,
) -> list[Vector]:
    """Spread activation over links: A(k) = A(0) + delta W^T A(k-1) [inferred].

    Rows of W with a sum above 1 are scaled to sum 1, so that delta below 1 makes it converge; weak links stay weak.

    Args:
        initial: A(0).
        origins, targets, weights: the links, from memory to memory by place.
        share: delta.
        hops: number of iterations.

    Returns:
        A(0), A(1), ..., A(hops).
    """
    totals = np.zeros(len(initial))
    np.add.at(totals, origins, weights)
    normalised = weights / np.maximum(totals[origins], 1.0) if len(weights) else weights
    course = [initial]
    for _ in range(hops):
        received = np.zeros(len(initial))
        np.add.at(received, targets, normalised * course[-1][origins])
        course.append(initial + share * received)
    return course


def base_level(ages: Sequence[float], decay: float = 0.5) -> float:
    """Compute ACT-R's base level ln(sum over uses of age^-0.5); ages are in days and at least a minute [inferred]."""
    return math.log(sum(max(age, 1 / 1440) ** -decay for age in ages))


def primed(residual: float, decay: float, turns: int) -> float:
    """Compute what is left of an activation after some turns: A lambda^turns [inferred]."""
    return residual * decay**turns


def epistemic_state(
    confidence: float, margin: float, best_cosine: float, conflict: bool, *, known: float, clear: float, unknown: float
) -> State:
    """Grade what automatic recall knows [inferred].

    Args:
        confidence: A_1 pi_1 of the most active memory; `known` is its threshold.
        margin: (A_1 - A_2) / A_1; `clear` is its threshold.
        best_cosine: the largest cosine of any memory with the query; below `unknown` nothing is known.
        conflict: the most active memories contradict each other.

    Returns:
        `unknown` (abstain), `known` (answer at once), or `unsure` (escalate to deliberate search).
    """
    if best_cosine < unknown:
        return "unknown"
    return "known" if confidence >= known and margin >= clear and not conflict else "unsure"


def strengthened(weight: float, rate: float) -> float:
    """Strengthen a link between memories that were active together: w + eta (1 - w) [inferred]."""
    return weight + rate * (1.0 - weight)


def decayed(strength: float, days: float, lifetime: float) -> float:
    """Compute s exp(-dt / tau) after some days; a lifetime of infinity, that of core beliefs, keeps it [inferred]."""
    return strength * math.exp(-days / lifetime)


def precision_weighted(value: Vector, precision: float, other: Vector, other_precision: float) -> Vector:
    """Compute (pi v + pi_x v_x) / (pi + pi_x), the update inside the labile window of a retrieval [inferred]."""
    return (precision * value + other_precision * other) / (precision + other_precision)


def prediction_error(new: frozenset[str], old: frozenset[str]) -> float:
    """Compute the share of a statement's words that the memory it meets does not have [inferred]."""
    return len(new - old) / len(new) if new else 0.0
