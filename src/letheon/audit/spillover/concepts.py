"""Concepts of a suite's domains in a model's states: how alike they are, and what that says of who loses refusals.

After arXiv 2511.14017 (see `letheon.audit.spillover.spillover`): similarity of concept vectors on the model before, per
layer, against the refusals that each domain lost. On the model after it would be circular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from letheon.audit.spillover.domain_suite import NEUTRAL


def concept_vectors(states: Float[Tensor, "layers rows width"], domains: Sequence[str]) -> dict[str, Tensor]:
    """For each domain [layers, width]: the mean of its prompts' states minus that of the neutral ones (else of all).

    Without the subtraction all means share one large direction and every cosine is near 1.
    """
    means = _by_domain(states, domains)
    zero = means.pop(NEUTRAL) if NEUTRAL in means else torch.stack(list(means.values())).mean(0)
    return {domain: mean - zero for domain, mean in means.items()}


def _by_domain(values: Tensor, domains: Sequence[str]) -> dict[str, Tensor]:
    """Average values [layers, rows, ...] over the rows of each domain."""
    rows = {one: [i for i, of in enumerate(domains) if of == one] for one in dict.fromkeys(domains)}
    return {domain: values[:, chosen].mean(1) for domain, chosen in rows.items()}


def entanglement(vectors: Mapping[str, Float[Tensor, "layers width"]]) -> Float[Tensor, "layers domains domains"]:
    """Return the cosine of every two concept vectors at each layer."""
    unit = normalize(torch.stack(list(vectors.values()), 1), dim=-1)
    return unit @ unit.transpose(1, 2)


def early_layers(layers: int) -> int:
    """Return the number of "early" layers: the lowest third, rounded up."""
    return -(-layers // 3)


class Order(NamedTuple):
    """A rank correlation, the share of permutations that give as much or more, and the pairs behind it."""

    value: float | None
    p: float | None
    n: int


def spill_order(
    similarity: Sequence[float],
    drops: Sequence[float],
    groups: Sequence[int] | None = None,
    *,
    permutations: int = 5000,
    seed: int = 0,
) -> Order:
    """Do refusals fall in the order of similarity? Correlation of ranks within each group, pooled over the groups.

    A group is one intervention; drops are permuted within groups, since how far refusals fall at all differs between
    interventions. One group gives Spearman's correlation. The test is one-sided: more similar, larger drop.

    Args:
        similarity, drops: of each pair of the unlearned domain and another.
    """
    of = np.asarray(groups if groups is not None else [0] * len(drops))
    first, second = np.zeros(len(of)), np.zeros(len(of))
    for group in np.unique(of):
        here = of == group
        for target, values in ((first, similarity), (second, drops)):
            ranks = stats.rankdata(np.asarray(values, dtype=float)[here])
            target[here] = ranks - ranks.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    if len(of) < 3 or scale == 0:
        return Order(None, None, len(of))
    draw = np.random.default_rng(seed)
    keys = draw.random((permutations, len(of))) + of  # a group's keys lie in an interval of their own
    order = np.argsort(keys, axis=1)
    place = np.argsort(of, kind="stable")
    shuffled = np.empty((permutations, len(of)))
    shuffled[:, place] = second[order]
    observed = float(first @ second)
    p = (1 + int((shuffled @ first >= observed - 1e-9).sum())) / (permutations + 1)
    return Order(observed / scale, p, len(of))


@dataclass(frozen=True)
class Direction:
    """The movement of the direction between refused and answered prompts.

    Attributes:
        cosine: per layer, of the direction before with the direction after (the same prompts).
        before, after: per domain and layer, where its prompts lie along the direction before: 1 as the refused ones
            lay on average, 0 as the answered ones did.
    """

    cosine: list[float]
    before: dict[str, list[float]]
    after: dict[str, list[float]]


def refusal_direction(
    before: Float[Tensor, "layers rows width"],
    after: Float[Tensor, "layers rows width"],
    refused: Sequence[bool],
    domains: Sequence[str],
) -> Direction | None:
    """Difference of means, refused minus answered before, in both models; None where one kind is missing."""
    chosen = torch.tensor(refused)
    if before.shape != after.shape or not bool(chosen.any()) or bool(chosen.all()):
        return None
    old, new = (states[:, chosen].mean(1) - states[:, ~chosen].mean(1) for states in (before, after))
    zero = before[:, ~chosen].mean(1)
    places = []
    for states in (before, after):
        along = ((states - zero[:, None]) * old[:, None]).sum(-1) / (old**2).sum(-1)[:, None]  # layers, rows
        places.append({domain: means.tolist() for domain, means in _by_domain(along, domains).items()})
    return Direction(cosine_similarity(old, new, dim=-1).tolist(), *places)
