"""Curvature of a model's outputs on given rows: its Gauss-Newton matrix, one Kronecker-factored block per linear layer.

To second order, the mean KL(p_θ || p_θ+δ) of a predicted token is ½ δᵀGδ. With softmax outputs G is the Fisher matrix,
so its labels are drawn from the model itself; the data's own labels would give another matrix. A token enters a layer
as a and leaves it as s = Wa; with g the gradient of −log p(ŷ) with respect to s:

    kfac      A ⊗ S with A = E[aaᵀ] and S = E[ggᵀ], means over real tokens, as if a and g were independent.
    ekfac     the same eigenvectors, but along each pair of them the second moment of the rows' gradients.
    diagonal  that second moment along the weights themselves, without rotation.
    identity  no curvature at all.

Papers:  Martens and Grosse, K-FAC, arXiv 1503.05671; George et al., EK-FAC, arXiv 1806.03884.
Own code, because curvlinops knows no padding, and kronfluence (whose conventions are followed, and whose factors these
are for the same labels) asks for torchvision and puts modules of its own into the model; neither tracks `Conv1D`.
Differs: every kind is scaled to nats of one predicted token, so that one damping and one step size serve all of them
         (kronfluence has K-FAC a real token and EK-FAC a row). Eigenvectors and curvatures are kept in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["kfac", "ekfac", "diagonal", "identity"]


def eigenbasis(matrix: Float[Tensor, "d d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Eigenvalues (none below 0) and eigenvectors (columns) of a covariance, computed in float64."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp(min=0).to(matrix.dtype), vectors.to(matrix.dtype)


@dataclass(frozen=True)
class Block:
    """Curvature of one layer's weights [out, in]; a bias is one more column of `in`.

    Attributes:
        curvature: Λ [out, in], nats per predicted token, along the eigenvectors.
        left, right: eigenvectors of S [out, out] and of A [in, in]; None where there is no rotation.
    """

    curvature: Float[Tensor, "out in"]
    left: Float[Tensor, "out out"] | None = None
    right: Float[Tensor, "in in"] | None = None

    def rotated(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """M in the eigenbasis: Q_Sᵀ M Q_A."""
        return matrix if self.left is None or self.right is None else self.left.T @ matrix @ self.right

    def precondition(self, gradient: Float[Tensor, "out in"], damping: float) -> Float[Tensor, "out in"]:
        """(G + λI)⁻¹ g: Q_S [ (Q_Sᵀ g Q_A) / (Λ + λ) ] Q_Aᵀ."""
        divided = self.rotated(gradient) / (self.curvature + damping)
        return divided if self.left is None or self.right is None else self.left @ divided @ self.right.T

    def quadratic(self, direction: Float[Tensor, "out in"]) -> float:
        """vᵀGv = Σ Λ (Q_Sᵀ v Q_A)²: twice the KL that the step v costs, nats per predicted token."""
        return float((self.curvature * self.rotated(direction).square()).sum(dtype=torch.float64))


@dataclass
class Factors:
    """The curvature of some layers on some rows.

    Attributes:
        kind: how it was factored.
        blocks: by the layer's name; a layer on which no prediction depends has none.
        tokens, predictions: numbers of real tokens and of drawn labels that it was computed from.
    """

    kind: Kind
    blocks: dict[str, Block] = field(default_factory=dict)
    tokens: int = 0
    predictions: int = 0

    def predicted_kl(self, change: Mapping[str, Tensor]) -> float:
        """½ δᵀGδ, nats per predicted token, of a change [out, in] of each layer."""
        return 0.5 * sum(block.quadratic(change[name]) for name, block in self.blocks.items())
