"""Optimizers: stochastic gradient descent in one fused call per step, and the state of all optimizers for checkpoints.

`Descent` gives the same bits as `torch.optim.SGD`, which spends a fifth of a small network's step on bookkeeping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from letheon.core.training.optimizers import FlexibleAdamW
from letheon.retain.settings import LearnSettings


class Descent:
    """v <- μv + g + λθ, θ <- θ - ηv over a list of parameters; parameters without a gradient stay as they are.

    Attributes:
        learning_rate: η; may be changed between steps.
        velocity: v of each parameter; empty without momentum and before the first step.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        learning_rate: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.velocity: list[Tensor] = []

    def zero_grad(self) -> None:
        """Delete the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the parameters' gradients."""
        gradients = [parameter.grad for parameter in self.parameters]
        weights: list[Tensor] = list(self.parameters)
        if any(gradient is None for gradient in gradients):
            self._some(gradients)
            return
        steps: list[Tensor] = gradients  # type: ignore[assignment]  # none is None
        if self.weight_decay:
            steps = list(torch._foreach_add(steps, weights, alpha=self.weight_decay))
        if self.momentum:
            if not self.velocity:
                self.velocity = [step.clone() for step in steps]
            else:
                torch._foreach_mul_(self.velocity, self.momentum)
                torch._foreach_add_(self.velocity, steps)
            steps = self.velocity
        torch._foreach_add_(weights, steps, alpha=-self.learning_rate)

    def _some(self, gradients: Sequence[Tensor | None]) -> None:
        """Take a step in which parameters without a gradient, and their velocities, stay as they are."""
        if self.momentum and not self.velocity:
            self.velocity = [torch.zeros_like(parameter) for parameter in self.parameters]
        moving = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if not moving:
            return
        part = Descent([self.parameters[i] for i in moving], self.learning_rate, self.momentum, self.weight_decay)
        part.velocity = [self.velocity[i] for i in moving] if self.momentum else []
        part.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the velocities by place."""
        return {str(i): velocity for i, velocity in enumerate(self.velocity)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the velocities."""
        self.velocity = [state[str(i)].to(self.parameters[i].device) for i in range(len(state))]


Optimizer = Descent | torch.optim.Optimizer


def make_optimizer(weights: Sequence[nn.Parameter], kind: str, rate: float, settings: LearnSettings) -> Optimizer:
    """Return an optimizer without state; `kind` is sgd, adam, adamw or adamw8bit."""
    if kind == "sgd":
        return Descent(weights, rate, settings.momentum, settings.weight_decay)
    if kind == "adamw8bit":
        return FlexibleAdamW(weights, rate, settings.weight_decay, eight_bits=True)
    make = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return make(weights, lr=rate, weight_decay=settings.weight_decay, fused=True)


def optimizer_state(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the optimizer's tensors by name; they share memory with the optimizer."""
    if isinstance(optimizer, Descent):
        return optimizer.state_dict()
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def load_optimizer_state(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]
) -> None:
    """Restore what `optimizer_state` returned."""
    if isinstance(optimizer, Descent):
        optimizer.load_state_dict(dict(state))
        return
    for name, parameter in parameters.items():
        own = {key.removeprefix(f"{name}/"): t for key, t in state.items() if key.startswith(f"{name}/")}
        if own:
            optimizer.state[parameter] = own
