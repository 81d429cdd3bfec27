"""The formulation that the field's unlearning code uses, written plainly: what ours is compared with.

Source: locuslab/open-unlearning (arXiv 2506.12618): a forward pass a set, logits at every position, cross-entropy over
all of them, a second frozen model that runs at every step, hidden states taken by a hook from a whole pass. What that
code computes and throws away (a second loss inside the model, a key/value cache) is left out here, in its favour.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from letheon.core.model.hooks import record
from letheon.core.model.sites import Site
from letheon.core.rows.encoding import Batch


def summed_nll(model: Any, batch: Batch, *, exact: bool = False) -> Tensor:
    """[rows]: negative log-likelihood of each answer, from the logits of every position.

    Over a vocabulary of 49,152 the field's cross-entropy on transposed logits is off by some 1e-4 nats a token on a
    processor, always to the same side: it adds up in float32. `exact` adds up the same logits in float64, for checks.
    """
    logits = model(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    labels = batch.labels[:, 1:]
    if exact:
        pairs = zip(logits[:, :-1], labels, strict=True)
        return torch.stack(
            [functional.cross_entropy(z.double(), y, ignore_index=-100, reduction="sum") for z, y in pairs]
        )
    shifted = logits[:, :-1].contiguous().transpose(-1, -2)
    nll: Tensor = functional.cross_entropy(shifted, labels, ignore_index=-100, reduction="none")
    return nll.sum(-1)


def npo(model: Any, reference: Any, forget: Batch, retain: Batch, beta: float) -> Tensor:
    """NPO on the forget rows plus the model's own loss on the retain rows."""
    with torch.no_grad():
        before = summed_nll(reference, forget)
    now = summed_nll(model, forget)
    kept: Tensor = model(
        retain.input_ids, attention_mask=retain.attention_mask, labels=retain.labels, use_cache=False
    ).loss
    loss: Tensor = -2 / beta * functional.logsigmoid(beta * (now - before)).mean() + kept
    return loss


def states(model: Any, batch: Batch, layer: int) -> Tensor:
    """[rows, length, width]: one layer's output, taken by a hook from a pass through all layers and the vocabulary."""
    with record(model, [Site(layer)]) as found:
        model(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return found[Site(layer)]


def activation_loss(hidden: Tensor, target: Tensor, batch: Batch) -> Tensor:
    """Mean squared distance at the answer's tokens: over the width, a row's tokens, the rows."""
    mask = (batch.labels != -100).to(hidden.dtype)
    squared = functional.mse_loss(hidden, target, reduction="none").mean(-1) * mask
    return (squared.sum(-1) / mask.sum(-1)).mean()


def rmu(model: Any, reference: Any, forget: Batch, retain: Batch, layer: int, vector: Tensor) -> Tensor:
    """RMU: forget rows towards a fixed vector, retain rows held at the frozen model's states."""
    hidden = states(model, forget, layer)
    loss = activation_loss(hidden, vector.expand_as(hidden), forget)
    with torch.no_grad():
        before = states(reference, retain, layer)
    return loss + activation_loss(states(model, retain, layer), before, retain)
