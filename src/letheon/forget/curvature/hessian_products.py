"""Products of a loss's second and third derivatives with vectors, exactly or by finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from letheon.core.training.gradients import Vector, add, backward, norm
from letheon.forget.curvature.similarity import inner_product


class LossDerivatives:
    """A loss as a function of the weights: its gradient, and products with its second and third derivatives.

    Args:
        shares: evaluates the loss at the present weights as shares that add up (micro-batches), on the same rows at
            every call.
        weights: the loss's arguments.
        total: sums a vector over processes.
        take: returns and clears the weights' gradients, summed over processes; given where the weights lie in shards,
            which have gradients by backward passes only, and then no second derivative.
    """

    def __init__(
        self,
        shares: Callable[[], Iterable[Tensor]],
        weights: Sequence[nn.Parameter],
        total: Callable[[Vector], Vector] = lambda vector: vector,
        take: Callable[[], Vector] | None = None,
    ) -> None:
        self.shares, self.weights, self.total, self.take = shares, list(weights), total, take

    def gradient(self) -> Vector:
        """The gradient g."""
        if self.take is None:
            return self._derivative([])
        for loss in self.shares():
            backward(loss)
        return self.take()

    def hessian(self, v: Vector) -> Vector:
        """The product H v with the Hessian."""
        return self._derivative([v])

    def third(self, u: Vector, v: Vector) -> Vector:
        """The third-derivative product ∇(uᵀHv), with u and v constant."""
        return self._derivative([v, u])

    def _derivative(self, along: Sequence[Vector]) -> Vector:
        """The gradient of the loss, which is first differentiated along the given vectors."""
        summed = [torch.zeros_like(weight) for weight in self.weights]
        for loss in self.shares():
            for direction in along:
                slope = self._grad(loss, create_graph=True)
                loss = inner_product(slope, direction)
            add(summed, 1.0, self._grad(loss))
        return self.total(summed)

    def _grad(self, loss: Tensor, create_graph: bool = False) -> Vector:
        if not loss.requires_grad:  # linear: nothing is left to differentiate
            return [torch.zeros_like(weight) for weight in self.weights]
        slope = torch.autograd.grad(
            loss, self.weights, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        return list(slope)


@torch.no_grad()
def central_difference(
    function: Callable[[], Vector], weights: Sequence[nn.Parameter], v: Vector, epsilon: float
) -> Vector:
    """(f(θ + εv̂) − f(θ − εv̂))·‖v‖/2ε: the Jacobian of f times v; the weights end in the bits they began with."""
    length = norm(v)
    if length == 0:
        return [torch.zeros_like(tensor) for tensor in v]
    start, ends = [weight.clone() for weight in weights], []
    try:
        for sign in (1, -1):
            _place(weights, start, sign * epsilon / length, v)
            with torch.enable_grad():
                ends.append(function())
    finally:
        _place(weights, start, 0.0, v)
    return [(ahead - behind) * (length / (2 * epsilon)) for ahead, behind in zip(*ends, strict=True)]


def _place(weights: Sequence[nn.Parameter], start: Vector, scale: float, v: Vector) -> None:
    for weight, origin, tensor in zip(weights, start, v, strict=True):
        weight.copy_(origin + scale * tensor if scale else origin)
