"""The optimizer of a run: torch's own, or an AdamW for weights of another format or device, or with smaller moments.

A step of 1e-5 is lost when it is added to a weight in bfloat16, which has eight bits of precision. So weights in
bfloat16 have a float32 copy, to which the steps are added and from which they are rounded (Micikevicius et al., Mixed
Precision Training, arXiv 1710.03740, Sec. 3.1). With `offload` the moments and that copy lie in the processor's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from letheon.core.training.eight_bits import EightBits, pieces
from letheon.core.training.settings import TrainSettings


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """Make the optimizer that the settings ask for."""
    weights = list(parameters)
    rate, decay, kind = settings.learning_rate, settings.weight_decay, settings.optimizer
    other = settings.offload or any(weight.dtype != torch.float32 for weight in weights)
    if kind == "adamw8bit" or (kind == "adamw" and other):
        return FlexibleAdamW(weights, rate, decay, offload=settings.offload, eight_bits=kind == "adamw8bit")
    make = torch.optim.AdamW if kind == "adamw" else torch.optim.SGD
    return make(weights, lr=rate, weight_decay=decay, fused=True)


class FlexibleAdamW(torch.optim.Optimizer):
    """AdamW computed in float32 (Loshchilov and Hutter, arXiv 1711.05101, Alg. 2), whatever holds weights and moments.

    Args:
        parameters: weights in any format of floating-point numbers.
        offload: hold the states in the processor's memory and compute the step there.
        eight_bits: hold the moments of matrices in eight bits; see `eight_bits.py`. Vectors, such as norms, have
            float32 moments.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        offload: bool = False,
        eight_bits: bool = False,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "betas": (0.9, 0.999), "eps": 1e-8})
        self.offload, self.eight_bits = offload, eight_bits

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step for every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._one(weight, group)

    def _one(self, weight: Tensor, group: dict[str, Any]) -> None:
        place = torch.device("cpu") if self.offload else weight.device
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            if weight.dtype != torch.float32 or self.offload:
                state["weight"] = weight.detach().to(place, torch.float32, copy=True)
        for name in state:  # a resumed run has put them beside the weights
            state[name] = state[name].to("cpu" if name == "step" else place)
        state["step"] += 1
        exact = state.get("weight", weight)
        if self.eight_bits and weight.dim() >= 2:
            self._in_eight_bits(exact, weight.grad.to(place), state, group)  # type: ignore[union-attr]  # see `step`
        else:
            for name in ("exp_avg", "exp_avg_sq"):
                if name not in state:
                    state[name] = torch.zeros(weight.shape, device=place)
            gradient = weight.grad.to(place, torch.float32)  # type: ignore[union-attr]  # looked at by `step`
            _descend(exact, gradient, state["exp_avg"], state["exp_avg_sq"], float(state["step"]), group)
        if exact is not weight:
            weight.copy_(exact)

    def _in_eight_bits(self, exact: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Take the step some rows at a time, whose moments alone are decoded."""
        first, second = EightBits(state, "exp_avg", exact, True), EightBits(state, "exp_avg_sq", exact, False)
        flat, steps = exact.view(len(exact), exact.shape[1:].numel()), float(state["step"])
        for rows in pieces(exact.shape):
            moments = first.read(rows), second.read(rows)
            _descend(flat[rows], gradient.view(flat.shape)[rows].float(), *moments, steps, group)
            first.write(rows, moments[0])
            second.write(rows, moments[1])


def _descend(
    exact: Tensor, gradient: Tensor, first: Tensor, second: Tensor, steps: float, group: dict[str, Any]
) -> None:
    """Update both moments and the weights in place.

    Args:
        steps: number of this step, from 1.
    """
    decay, decay_of_squares = group["betas"]
    first.lerp_(gradient, 1 - decay)
    second.mul_(decay_of_squares).addcmul_(gradient, gradient, value=1 - decay_of_squares)
    spread = (second / (1 - decay_of_squares**steps)).sqrt_().add_(group["eps"])
    exact.mul_(1 - group["lr"] * group["weight_decay"])
    exact.addcdiv_(first, spread, value=-group["lr"] / (1 - decay**steps))
