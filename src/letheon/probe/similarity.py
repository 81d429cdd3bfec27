"""How alike the hidden states of two models are: unbiased linear CKA, and the cosine of each token's two states.

Paper:   Similarity of Neural Network Representations Revisited (Kornblith et al.), arXiv 1905.00414; the unbiased
         estimator of the Hilbert-Schmidt independence criterion is Song et al.'s (JMLR 13, 2012, Eq. 5), averaged over
         batches as in Do Wide and Deep Networks Learn the Same Things? (Nguyen et al.), arXiv 2010.15327.
Differs: a batch is a text. The biased form calls unrelated states alike where tokens are fewer than dimensions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def unbiased_hsic(first: Float[Tensor, "rows rows"], second: Float[Tensor, "rows rows"]) -> Float[Tensor, ""]:
    """Estimate the independence criterion of two Gram matrices of at least four rows; unrelated ones give 0 on average.

    HSIC = [tr(K L) + ΣK ΣL / ((n − 1)(n − 2)) − 2 / (n − 2) Σ K L] / (n (n − 3)), without the diagonals of K and L.
    """
    n = len(first)
    k, l = (one - torch.diag(one.diag()) for one in (first, second))  # noqa: E741  # the paper's K and L
    product = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(0) @ l.sum(0)
    return product / (n * (n - 3))


def alignment(
    first: Float[Tensor, "rows width"], second: Float[Tensor, "rows other"], shuffle: Tensor | None = None
) -> Float[Tensor, " 3"]:
    """Return the criterion of one text's states with each other's, and of each with itself, as `cka` takes them.

    Args:
        shuffle: an order of the second states' rows, which pairs tokens at random: the control.
    """
    x, y = first.double(), second.double()
    y = y if shuffle is None else y[shuffle]
    k, l = x @ x.T, y @ y.T  # noqa: E741  # the paper's K and L
    return torch.stack([unbiased_hsic(k, l), unbiased_hsic(k, k), unbiased_hsic(l, l)])


def cka(alignments: Float[Tensor, "*texts 3"]) -> float:
    """Compute linear CKA from the alignments of one or more texts: 1 for equal states up to rotation and scale."""
    between, own, other = alignments.reshape(-1, 3).mean(0).tolist()
    return between / max((max(own, 0.0) * max(other, 0.0)) ** 0.5, 1e-300)


def mean_cosine(first: Float[Tensor, "rows width"], second: Float[Tensor, "rows width"]) -> float:
    """Average the cosine of each row of one with the same row of the other."""
    return float(torch.nn.functional.cosine_similarity(first.float(), second.float(), dim=-1).mean())
