"""The similarity of two gradients, with its first and second derivatives; a vector is a list of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from letheon.core.training.gradients import Vector
from letheon.core.training.sharding import over_shards

Penalty = Literal["cos", "cos2", "relu"]


def similarity(a: Sequence[Tensor], b: Sequence[Tensor], penalty: Penalty = "cos") -> Tensor:
    """cos(a, b) over all tensors together, its square, or its positive part; 0 if one of them is zero."""
    of_a, of_b = over_shards(inner_product(a, a)), over_shards(inner_product(b, b))
    squared = of_a * of_b
    if float(squared.detach()) == 0:  # no direction to be alike; a slope of 0 as well
        return 0.0 * squared
    cosine = over_shards(inner_product(a, b)) / (of_a.sqrt() * of_b.sqrt())
    return {"cos": cosine, "cos2": cosine**2, "relu": cosine.clamp(min=0)}[penalty]


def similarity_slopes(a: Vector, b: Vector, penalty: Penalty = "cos") -> tuple[Vector, Vector]:
    """∂s/∂a and ∂s/∂b; for the cosine c, b/(‖a‖‖b‖) − c·a/‖a‖² and the same with a and b exchanged."""
    a, b = _leaves(a), _leaves(b)
    return _halves(torch.autograd.grad(similarity(a, b, penalty), [*a, *b]))


def similarity_bends(a: Vector, b: Vector, p: Vector, q: Vector, penalty: Penalty = "cos") -> tuple[Vector, Vector]:
    """The Hessian of s(a, b) times (p, q), in its two halves."""
    a, b = _leaves(a), _leaves(b)
    slopes = torch.autograd.grad(similarity(a, b, penalty), [*a, *b], create_graph=True)
    return _halves(torch.autograd.grad(inner_product(slopes, [*p, *q]), [*a, *b]))


def inner_product(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """<a, b> over all tensors together, as a tensor that autograd differentiates."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _leaves(vector: Vector) -> Vector:
    return [tensor.detach().requires_grad_() for tensor in vector]


def _halves(vectors: Sequence[Tensor]) -> tuple[Vector, Vector]:
    return list(vectors[: len(vectors) // 2]), list(vectors[len(vectors) // 2 :])
