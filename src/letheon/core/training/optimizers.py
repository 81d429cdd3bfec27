"""The optimizer of a run: torch's own, or AdamW whose states are float32 beside weights of another format or device.

A step of 1e-5 is lost when it is added to a weight in bfloat16, which has eight bits of precision. So weights in
bfloat16 have a float32 copy, to which the steps are added and from which they are rounded (Micikevicius et al., Mixed
Precision Training, arXiv 1710.03740, Sec. 3.1). With `offload` the moments and that copy lie in the processor's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from letheon.core.training.settings import TrainSettings


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """Make the optimizer that the settings ask for."""
    weights = list(parameters)
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw" and (settings.offload or any(weight.dtype != torch.float32 for weight in weights)):
        return Float32AdamW(weights, rate, decay, offload=settings.offload)
    make = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.SGD
    return make(weights, lr=rate, weight_decay=decay, fused=True)


class Float32AdamW(torch.optim.Optimizer):
    """AdamW with float32 states (Loshchilov and Hutter, arXiv 1711.05101, Alg. 2).

    Args:
        parameters: weights in any format of floating-point numbers.
        offload: hold the states in the processor's memory and compute the step there.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, offload: bool) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "betas": (0.9, 0.999), "eps": 1e-8})
        self.offload = offload

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
            state["exp_avg"] = torch.zeros(weight.shape, device=place)
            state["exp_avg_sq"] = torch.zeros(weight.shape, device=place)
            if weight.dtype != torch.float32 or self.offload:
                state["weight"] = weight.detach().to(place, torch.float32, copy=True)
        for name in ("exp_avg", "exp_avg_sq", "weight"):  # a resumed run has put them beside the weights
            if name in state:
                state[name] = state[name].to(place)
        gradient = weight.grad.to(place, torch.float32)  # type: ignore[union-attr]  # looked at by the caller
        state["step"] += 1
        (first, second), steps = group["betas"], float(state["step"])
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (state["exp_avg_sq"] / (1 - second**steps)).sqrt_().add_(group["eps"])
        exact = state.get("weight", weight)
        exact.mul_(1 - group["lr"] * group["weight_decay"])
        exact.addcdiv_(state["exp_avg"], spread, value=-group["lr"] / (1 - first**steps))
        if exact is not weight:
            weight.copy_(exact)
