"""Gradient vectors as lists of tensors: inner products, orthonormal bases, projections, the nearest safe step.

A vector is a list with one tensor per parameter; it is never flattened. Inner products accumulate in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from letheon.core.training.sharding import total

Vector = list[Tensor]


def dot(a: Sequence[Tensor], b: Sequence[Tensor], weight: Sequence[Tensor] | None = None) -> float:
    """Compute <a, b>, or Σ w·a·b with a positive diagonal weight; float32 within a tensor, float64 across tensors.

    Gradients of a loop whose weights lie in shards are summed over the shards.
    """
    if weight is None:
        return total(sum(float(torch.dot(x.flatten(), y.flatten())) for x, y in zip(a, b, strict=True)))
    return total(sum(float(torch.dot((x * w).flatten(), y.flatten())) for x, y, w in zip(a, b, weight, strict=True)))


def backward(loss: Tensor, *, retain_graph: bool = False) -> None:
    """Add a loss's gradient to the `grad` of every leaf that requires one; a typed `loss.backward()`."""
    torch.autograd.backward(loss, retain_graph=retain_graph)


def norm(a: Sequence[Tensor]) -> float:
    """Compute the Euclidean norm."""
    return dot(a, a) ** 0.5


def add(target: Vector, scale: float, other: Sequence[Tensor]) -> None:
    """Add scale · other to `target` in place."""
    torch._foreach_add_(target, list(other), alpha=scale)


def scaled(a: Sequence[Tensor], scale: float) -> Vector:
    """Return scale · a as a new vector."""
    return list(torch._foreach_mul(list(a), scale))


def orthonormal(vectors: Sequence[Sequence[Tensor]], tolerance: float = 1e-6) -> list[Vector]:
    """Compute an orthonormal basis of the span by modified Gram-Schmidt with one repetition.

    Args:
        tolerance: a vector adds no direction if its residual is shorter than this fraction of its length.
    """
    basis: list[Vector] = []
    for vector in vectors:
        length = norm(vector)
        if length == 0:
            continue
        rest = scaled(vector, 1 / length)
        for _ in range(2):  # the second pass removes what rounding left in the first
            for direction in basis:
                add(rest, -dot(direction, rest), direction)
        size = norm(rest)
        if size > tolerance:
            basis.append(scaled(rest, 1 / size))
    return basis


def coefficients(basis: Sequence[Sequence[Tensor]], vector: Sequence[Tensor]) -> list[float]:
    """Compute Qᵀv: the vector's coordinates in the basis."""
    return [dot(direction, vector) for direction in basis]


def combination(basis: Sequence[Sequence[Tensor]], weights: Sequence[float]) -> Vector:
    """Compute Σ wᵢ qᵢ: the vector with these coordinates in the basis."""
    vector = scaled(basis[0], weights[0])
    for direction, weight in zip(basis[1:], weights[1:], strict=True):
        add(vector, weight, direction)
    return vector


def safe_multipliers(gram: Float[np.ndarray, "m m"], violations: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Find λ ≥ 0 that minimises ½λᵀKλ − λᵀc: the multipliers of the nearest step that violates no constraint.

    For min ½‖Δ − Δ₀‖²_M subject to GᵀΔ ≤ 0, K = GᵀM⁻¹G and c = GᵀΔ₀; then Δ = Δ₀ − M⁻¹Gλ.

    Args:
        gram: K, float64, positive semidefinite.
        violations: c.
    """
    values, vectors = np.linalg.eigh(gram)
    kept = values > max(values.max(), 0.0) * 1e-12
    if not kept.any():
        return np.zeros(len(violations))
    root = np.sqrt(values[kept])
    factor = root[:, None] * vectors[:, kept].T  # K = factorᵀ factor
    target = (vectors[:, kept].T @ violations) / root  # factorᵀ target = c on the range of K
    return nnls(factor, target)[0]
