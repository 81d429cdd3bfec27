"""Gradients of the forget and of the retain loss in buffers of their own, for updates that reconcile them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from letheon.core.training.gradients import Vector, dot, norm
from letheon.forget.parts import Objective, Pair, Terms, mean_metrics

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop


def gradients_apart(loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> tuple[Vector, Vector, dict[str, float]]:
    """Gradients over the effective batch of the forget loss, and of all that keeps: retain rows, other tokens."""
    watches: list[dict[str, float]] = []
    keeps: list[Tensor | None] = []
    for pair in pairs:
        terms = _terms(loop, objective, pair.only_forget(), watches)
        if terms.forget is not None:
            terms.forget.backward(retain_graph=terms.keep is not None)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            keeps.append(terms.keep)
    forget = loop.take_gradients()
    for keep in [*keeps, *(_terms(loop, objective, pair.only_retain(), watches).retain for pair in pairs)]:
        if keep is not None:
            keep.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    metrics = loop.reduce_metrics(mean_metrics(watches))
    return forget, loop.take_gradients(), metrics


def _terms(loop: Loop, objective: Objective, pair: Pair, watches: list[dict[str, float]]) -> Terms:
    with loop.autocast():
        terms = objective.terms(loop.model, pair)
    total = terms.total()
    watches.append(terms.metrics if total is None else {**terms.metrics, "loss": float(total.detach())})
    return terms


def cosine(a: Vector, b: Vector) -> float:
    """Between two gradients; 0 where one of them is none."""
    lengths = norm(a) * norm(b)
    return dot(a, b) / lengths if lengths else 0.0
