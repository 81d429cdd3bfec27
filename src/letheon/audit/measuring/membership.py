"""Membership inference: six attacks that tell rows a model was trained on from rows like them that it never saw.

Papers:  Yeom et al., arXiv 1709.01604 (loss); Carlini et al., arXiv 2012.07805 (zlib, reference); Shi et al.,
         arXiv 2310.16789 (Min-K%); Zhang et al., arXiv 2404.02936 (Min-K%++); Duan et al., arXiv 2402.07841, and Maini
         et al., arXiv 2402.17012 (gradient norm); Shi et al., MUSE, arXiv 2407.06460 (PrivLeak).
Source:  open-unlearning (arXiv 2506.12618), which fixes signs, tokens and k = 0.4 as the field compares them.
Differs: the gradient norm is measured without dropout; running text has no end of turn that would be left out.

Every score is the higher, the less likely the row was trained on. Loss, zlib and reference keep the end of turn;
Min-K%, Min-K%++ and the gradient norm leave it out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve
from torch import Tensor

from letheon.audit.measuring.merged_copy import merged_copy
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.likelihood import score
from letheon.core.statistics import Estimate, estimate_auroc

K = 0.4  # share of the least likely tokens that Min-K% looks at; the field's default
LEAST_VARIANCE = 1e-6  # keeps Min-K%++ finite where the model is certain; part of the definition
TINY = 1e-10  # likewise of PrivLeak
# Tokens scored together: whole distributions over the vocabulary are in memory at each labelled one.
TOKENS_AT_ONCE = 1024


@dataclass(frozen=True)
class Membership:
    """One attack on one model.

    Attributes:
        name: `loss`, `zlib`, `min_k`, `min_k_plus_plus`, `reference` or `gradient_norm`.
        members, non_members: the score of each row; lower where the model seems to know it.
        auroc: 1 when every member scores lower than every non-member, 0.5 when the scores tell nothing.
        roc: (share of non-members taken for members, share of members found) at each threshold.
    """

    name: str
    members: list[float]
    non_members: list[float]
    auroc: Estimate
    roc: list[tuple[float, float]]


def membership(
    model: LanguageModel,
    members: Sequence[Example],
    non_members: Sequence[Example],
    *,
    reference: LanguageModel | None = None,
    gradient_norm: bool = False,
    seed: int = 0,
) -> dict[str, Membership]:
    """Run every attack; return the results by name.

    Args:
        members: rows that the model was trained on, or is suspected to know.
        non_members: rows like them that it never saw.
        reference: a model that saw neither, for the attack that needs one.
        gradient_norm: also run that attack, which takes one backward pass per row.
        seed: of the intervals.
    """
    scores = membership_scores(model, [*members, *non_members], reference, gradient_norm)
    return {
        name: attack(name, values[: len(members)], values[len(members) :], seed=seed) for name, values in scores.items()
    }


def attack(name: str, members: Sequence[float], non_members: Sequence[float], *, seed: int = 0) -> Membership:
    """Summarise an attack's scores: area under the ROC curve with its interval, and the curve."""
    labels = [1] * len(members) + [0] * len(non_members)
    false, true, _ = roc_curve(labels, -np.array([*members, *non_members]))
    roc = [(float(x), float(y)) for x, y in zip(false, true, strict=True)]
    return Membership(name, list(members), list(non_members), estimate_auroc(non_members, members, seed=seed), roc)


def membership_scores(
    model: LanguageModel,
    rows: Sequence[Example],
    reference: LanguageModel | None = None,
    gradient_norm: bool = False,
) -> dict[str, list[float]]:
    """Return each row's score under each attack; all but the gradient norm take one forward pass."""
    tokens = answer_tokens(model, rows)
    scores = {
        "loss": [loss(row.logp) for row in tokens],
        "zlib": [zlib_score(row.logp, example.answer) for row, example in zip(tokens, rows, strict=True)],
        "min_k": [min_k(row.inner(row.logp)) for row in tokens],
        "min_k_plus_plus": [
            min_k_plus_plus(row.inner(row.logp), row.inner(row.mean), row.inner(row.variance)) for row in tokens
        ],
    }
    if reference is not None:
        others = answer_tokens(reference, rows)
        scores["reference"] = [reference_score(row.logp, other.logp) for row, other in zip(tokens, others, strict=True)]
    if gradient_norm:
        scores["gradient_norm"] = gradient_norms(model, rows)
    return scores


# The attacks on the tokens of one row -------------------------------------------------------------------------------


def loss(logp: ArrayLike) -> float:
    """Mean negative log-probability of the label tokens, nats."""
    return -float(np.mean(np.asarray(logp, dtype=float)))


def zlib_score(logp: ArrayLike, text: str) -> float:
    """The loss over the length of the text after zlib has compressed it, nats per byte."""
    return loss(logp) / len(zlib.compress(text.encode()))


def min_k(logp: ArrayLike, k: float = K) -> float:
    """Mean negative log-probability of the share k of least likely tokens (at least one), nats.

    Args:
        logp: of the label tokens without the end of turn.
    """
    values = np.sort(np.asarray(logp, dtype=float))
    return -float(values[: max(1, int(k * len(values)))].mean()) if len(values) else 0.0


def min_k_plus_plus(logp: ArrayLike, mean: ArrayLike, variance: ArrayLike, k: float = K) -> float:
    """Min-K% of log-probabilities that are standardised by the mean and deviation at their position.

    Args:
        logp: of the label tokens without the end of turn.
        mean, variance: of the log-probability of a token drawn there, nats and nats squared.
    """
    deviation = np.sqrt(np.maximum(np.asarray(variance, dtype=float), LEAST_VARIANCE))
    return min_k((np.asarray(logp, dtype=float) - np.asarray(mean, dtype=float)) / deviation, k)


def reference_score(logp: ArrayLike, reference: ArrayLike) -> float:
    """Loss minus the loss of a reference model: the negative log-likelihood ratio per token.

    The two may cut the answer into different tokens.
    """
    return loss(logp) - loss(reference)


def privleak(auroc: float, reference: float = 0.5) -> float:
    """Return PrivLeak: a model's membership AUROC (Min-K%) relative to a retrained model's, in percent.

    100 [(1 - AUC) - (1 - AUC_retrained)] / (1 - AUC_retrained). With AUC 1 where every forgotten row is told as a
    member, a model that forgot nothing is near -100, one that forgot as retraining does at 0, and one whose forgotten
    rows stick out as unlikely far above.
    """
    return 100 * ((1 - auroc) - (1 - reference)) / ((1 - reference) + TINY)


# Inputs of the attacks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerTokens:
    """The label tokens of one answer.

    Attributes:
        logp: [n] log-probability of each, nats.
        mean, variance: [n] of the log-probability of a token drawn from the model there.
        ends: whether the last one is the end of turn.
    """

    logp: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    ends: bool

    def inner(self, values: np.ndarray) -> np.ndarray:
        """Return the values of the tokens without the end of turn."""
        return values[:-1] if self.ends else values


@torch.inference_mode()
def answer_tokens(model: LanguageModel, rows: Sequence[Example]) -> list[AnswerTokens]:
    """Return log-probabilities of each row's answer with their mean and variance, from one forward pass."""
    encoder = model.encoder()
    encoded = encoder.encode_all(rows)
    lengths = [len(row.ids) for row in encoded]
    by_row: dict[int, AnswerTokens] = {}
    for chosen in by_length(lengths, max(1, TOKENS_AT_ONCE // max(lengths, default=1))):
        scores = score(model, encoder.collate([encoded[i] for i in chosen], device=model.device))
        values = torch.stack([scores.logp, *scores.moments()]).cpu().numpy()
        ends = scores.lengths().cumsum(0).cpu().numpy()
        for i, part in zip(chosen, np.split(values, ends[:-1], axis=1), strict=True):
            by_row[i] = AnswerTokens(part[0], part[1], part[2], ends=bool(rows[i].prompt))
    return [by_row[i] for i in range(len(rows))]


def gradient_norms(model: LanguageModel, rows: Sequence[Example]) -> list[float]:
    """Mean over weight tensors of the Euclidean norm of the gradient of the row's mean loss, end of turn left out.

    An adapter counts as a part of the weights that it adapts: it is merged in a copy first.
    """
    plain = merged_copy(model) if model.has_adapter else model
    weights = list(plain.model.parameters())
    wanted = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        return [_gradient_norm(plain, row, weights) for row in rows]
    finally:
        for weight, before in zip(weights, wanted, strict=True):
            weight.requires_grad_(before)


def _gradient_norm(model: LanguageModel, row: Example, weights: Sequence[Tensor]) -> float:
    encoder = model.encoder()
    scores = score(model, encoder.collate(encoder.encode_all([row]), device=model.device))
    logp = scores.logp[:-1] if row.prompt else scores.logp
    gradients = torch.autograd.grad(-logp.mean(), weights, allow_unused=True)
    return float(torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).mean())
