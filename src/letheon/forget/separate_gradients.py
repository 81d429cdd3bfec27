"""Gradients of the forget and of the retain loss in separate buffers, for updates that reconcile them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.scoring.likelihood import score
from letheon.core.training.gradients import Vector, backward, dot, norm
from letheon.forget.parts import Objective, Pair, mean_metrics, terms_of

if TYPE_CHECKING:
    import torch

    from letheon.core.training.loop import Loop


@dataclass
class SeparateGradients:
    """Gradients over the effective batch, summed over processes.

    Attributes:
        forget: of the forget loss.
        retain: of everything that is retained: retain rows and the forget answers' tokens that carry no fact.
        metrics: the objective's, and `loss`, the sum of all terms.
        forget_loss: the forget term.
        retain_term: False if the objective has no retain term, so that `retain` is that of the likelihood.
    """

    forget: Vector
    retain: Vector
    metrics: dict[str, float]
    forget_loss: float
    retain_term: bool


def separate_gradients(
    loop: Loop, objective: Objective, pairs: Sequence[Pair], *, protect_rows: bool = False
) -> SeparateGradients:
    """Backpropagate the forget and the retain terms of a step one after the other; the gradients are cleared.

    Args:
        protect_rows: use the retain rows' negative log-likelihood if the objective has no retain term.

    Raises:
        InputError: `protect_rows` without retain rows.
    """
    parts: list[dict[str, float]] = []
    kept: list[Tensor | None] = [None] * len(loop.parameters)
    for pair in pairs:
        with loop.autocast():
            terms = terms_of(loop.model, objective, pair.only_forget())
        parts.append(_logged(terms.metrics, terms.total()))
        if terms.forget is not None:
            backward(terms.forget, retain_graph=terms.keep is not None)
            parts.append({"forget_term": float(terms.forget.detach())})
        if terms.keep is not None:  # at once, so that no micro-batch's graph outlives it
            kept = loop.sharding.exchange(kept)
            backward(terms.keep)
            kept = loop.sharding.exchange(kept)
        del terms
    forget = loop.take_gradients()
    loop.sharding.exchange(kept)
    for pair in pairs:
        if protect_rows and pair.retain is None:
            raise InputError("this update needs retain rows", "give --retain, or use the update joint")
        with loop.autocast():
            terms = terms_of(loop.model, objective, pair.only_retain())
            loss = terms.retain
            if loss is None and protect_rows and pair.retain is not None:
                loss = -pair.retain.mean(score(loop.model, pair.retain).logp, "tokens")
                parts.append({"without_retain_term": 1.0})
        parts.append(_logged(terms.metrics, terms.total()))
        if loss is not None:
            backward(loss)
            if protect_rows and "retain_loss" not in terms.metrics:
                parts.append({"retain_loss": float(loss.detach())})
    metrics = loop.reduce_metrics(mean_metrics(parts))
    forget_loss = metrics.pop("forget_term", 0.0)
    retain_term = metrics.pop("without_retain_term", 0.0) == 0  # over all processes: one may have had no rows
    return SeparateGradients(forget, loop.take_gradients(), metrics, forget_loss, retain_term)


def accumulate(loop: Loop, objective: Objective, pairs: Sequence[Pair], retain_weight: float = 1.0) -> dict[str, float]:
    """Backpropagate the sum of all terms of a step into one gradient, summed over processes; returns metrics.

    Args:
        retain_weight: factor of the objective's retain term, beside its own α.
    """
    parts = []
    for pair in pairs:
        with loop.autocast():
            terms = terms_of(loop.model, objective, pair, retain_weight)
            total = terms.total()
        if total is not None:
            backward(total)
            parts.append({**terms.metrics, "loss": float(total.detach())})
    metrics = loop.reduce_metrics(mean_metrics(parts))
    loop.sum_gradients()
    return metrics


def descend(loop: Loop, gradient: Vector, optimizer: torch.optim.Optimizer | None = None) -> float:
    """Clip a gradient and let an optimizer, by default the loop's, take its step; returns the norm before clipping."""
    for parameter, tensor in zip(loop.parameters.values(), gradient, strict=True):
        parameter.grad = tensor
    length = loop.clip()
    (optimizer or loop.optimizer).step()
    return length


def _logged(metrics: dict[str, float], total: Tensor | None) -> dict[str, float]:
    return metrics if total is None else {**metrics, "loss": float(total.detach())}


def cosine(a: Vector, b: Vector) -> float:
    """The cosine of the angle between two gradients; 0 if one of them is zero."""
    lengths = norm(a) * norm(b)
    return dot(a, b) / lengths if lengths else 0.0
