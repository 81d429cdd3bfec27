"""Concept erasure in closed form: the smallest affine map after which no linear probe can read a concept.

Paper:   Belrose et al., LEACE: Perfect linear concept erasure in closed form, arXiv 2306.03819, theorem 4.3:
         r(x) = x − W⁺ P W (x − E x), with W = Σ_xx^(−1/2) and P the orthogonal projection on the columns of W Σ_xz.
Differs: none. Moments and eigenvectors in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import edit, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example

# Directions whose eigenvalue is a smaller fraction of the largest one have no measurable variance.
NO_VARIANCE = 1e-10


@dataclass(frozen=True)
class Eraser:
    """The map r(x) = x − left (right (x − mean)); `rank` is the number of linearly readable dimensions."""

    mean: Float[Tensor, " width"]
    left: Float[Tensor, "width rank"]
    right: Float[Tensor, "rank width"]

    def __call__(self, states: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return the states without the concept, in their own dtype."""
        mean, left, right = (tensor.to(states.device, states.dtype) for tensor in (self.mean, self.left, self.right))
        return states - (states - mean) @ right.T @ left.T


def fit_eraser(states: Float[Tensor, "n width"], concept: Float[Tensor, "n k"]) -> Eraser:
    """Fit LEACE to a concept given as numbers (0 and 1, or one-hot classes).

    Raises:
        InputError: the concept is constant, so there is nothing to erase.
    """
    x, z = states.double(), concept.double()
    mean = x.mean(0)
    x, z = x - mean, z - z.mean(0)
    if not bool(z.any()):
        raise InputError("the concept has one value only", "give states of at least two kinds")
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    kept = values > values.max() * NO_VARIANCE
    root, vectors = values[kept].sqrt(), vectors[:, kept]
    whitened = vectors / root @ vectors.T @ (x.T @ z / len(x))
    directions, sizes, _ = torch.linalg.svd(whitened, full_matrices=False)
    directions = directions[:, sizes > sizes.max() * NO_VARIANCE**0.5]
    left = (vectors * root) @ (vectors.T @ directions)
    right = (directions.T @ vectors / root) @ vectors.T
    return Eraser(mean.float(), left.float(), right.float())


@torch.no_grad()
def concept_states(
    model: LanguageModel, inside: Sequence[Example], outside: Sequence[Example], layer: int
) -> tuple[Float[Tensor, "n width"], Float[Tensor, "n 1"]]:
    """Return a layer's output at every token of question and answer but the first, and whether its row is inside (1).

    These are the positions at which an eraser acts.
    """
    states, labels = [], []
    for label, rows in ((1.0, inside), (0.0, outside)):
        for row in rows:
            ids = torch.tensor([model.encoder().encode(row).ids], device=model.device)
            with record(model.base(), [Site(layer)]) as seen:
                model.base()(ids, use_cache=False)
            states.append(seen[Site(layer)][0, 1:])
            labels.append(torch.full((ids.shape[1] - 1, 1), label, device=model.device))
    return torch.cat(states), torch.cat(labels)


@contextmanager
def erased(model: LanguageModel, layer: int, eraser: Eraser) -> Iterator[None]:
    """Erase the concept from a layer's output at every position while the block runs; weights are unchanged."""
    with edit(model.base(), {Site(layer): eraser}):
        yield
