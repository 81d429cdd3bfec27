"""The three losses of alternates. Source: as `objective.py` says."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from letheon.forget.objectives.alternates.kept import lost


def unlikelihood_loss(
    logits: Float[Tensor, "tokens vocabulary"], labels: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """−log(1 − p) of each token (nats), p its probability.

    Its gradient by the logits is p (e − q), with e the token's unit vector and q the distribution without the token,
    renormalised: unlike that of ascent it does not vanish as p → 1. (It is CE-U's gradient, arXiv 2503.01224.)
    """
    others = logits.scatter(-1, labels[:, None], float("-inf"))
    return logits.logsumexp(-1) - others.logsumexp(-1)


def alternates_loss(
    fact_logits: Float[Tensor, "facts vocabulary"],
    fact_labels: Int[Tensor, " facts"],
    alternate_logp: Float[Tensor, " alternates"],
    retain_logp: Float[Tensor, " retained"],
    retain_before: Float[Tensor, " retained"],
    counts: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """E[−log(1 − p)] of the facts' tokens, E[−log p] of the alternates', E[max(0, log p₀ − log p − s)] of the retained.

    In nats: p is a token's probability, p₀ the one before the first step (`retain_before` is its logarithm), s `SPARE`
    of `kept.py`. Each sum is divided by its count, the number of such tokens in the effective batch that it is part of.
    """
    facts, alternates, retained = (max(count, 1) for count in counts)
    unlikely = unlikelihood_loss(fact_logits, fact_labels).sum() / facts
    return unlikely, -alternate_logp.sum() / alternates, lost(retain_logp, retain_before).sum() / retained
