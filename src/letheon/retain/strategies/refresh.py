"""Refresh learning: before a batch is learned it is unlearned, by small ascents that Fisher information scales.

Paper:   Wang et al., A Unified and General Framework for Continual Learning, arXiv 2403.13249: the objective with two
         Bregman divergences, and the update by unlearning and relearning. The ascent's noise and γ are [recalled].
Differs: the Fisher information's diagonal is estimated after each task at the rows' own classes (the authors' code also
         weights a row by its probability), and the noise of the paper's form is off by default: at full size it is many
         times the step. Penalties that a strategy adds after the backward pass, as ewc does, are not unlearned. With
         the default damping of 1 and a Fisher information far below 1, the ascent is nearly a plain gradient ascent.

The refreshed step descends L + γ/2 ‖∇L‖² in the norm of the inverse Fisher information, to first order in γ. Unlike
sharpness-aware minimisation it starts from where the ascent ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from letheon.core.registry import Checked, method
from letheon.core.training.gradients import Vector
from letheon.retain.learner import Learner
from letheon.retain.row_gradients import diagonal_fisher
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task

# The update


def ascent(gradient: Tensor, fisher: Tensor | float, rate: float, damping: float) -> Tensor:
    """γ F⁻¹ ∇L with F⁻¹ = 1 / (F + damping): the paper's unlearning step without its noise."""
    return rate * gradient / (fisher + damping)


def langevin_noise(normal: Tensor, fisher: Tensor | float, rate: float, damping: float) -> Tensor:
    """Turn a draw from N(0, 1) into a draw from N(0, 2γ F⁻¹)."""
    return normal * torch.as_tensor(2 * rate / (fisher + damping)).sqrt()


def relative_ascent(weight: Tensor, gradient: Tensor, fisher: Tensor | float, noise: Tensor, size: float) -> Tensor:
    """The code's step: δ / (1 + 0.001 F) · (‖θ‖ ∇L/‖∇L‖ + 0.001 ξ) for each tensor, ξ from N(0, 1).

    A tensor that is zero has no ascent, only noise.
    """
    direction = gradient * (weight.norm() / (gradient.norm() + 1e-20))
    return size / (1 + 0.001 * fisher) * (direction + 0.001 * noise)


@dataclass(frozen=True)
class Settings(Checked, positive=("rate", "steps", "every", "damping"), not_negative=("samples", "noise")):
    rate: float = 0.02  # γ; the paper studies about 0.02 to 0.04 [recalled]
    steps: int = 1  # J; the paper studies up to 3
    every: int = 2  # steps between ascents; the paper
    damping: float = 1.0  # added to the Fisher information, which is 0 in the first task [inferred]
    noise: float = 0.0  # share of the noise's standard deviation; the paper's equation: 1 [recalled]
    samples: int = 256  # rows for the estimate of the Fisher information; 0 takes all


@dataclass(frozen=True)
class ReleaseSettings(Checked, positive=("size", "every"), not_negative=("samples",), shares=("decay",)):
    size: float = 1e-5  # δ: the step as a share of each tensor's norm; the code
    every: int = 1  # the code
    decay: float = 1e-5  # τ, weight of earlier tasks' Fisher information; the code
    samples: int = 256  # the code takes all (0)


class Unlearning(Strategy):
    """The base of both forms: the steps that unlearn, and the Fisher information of the last task."""

    keeps: ClassVar[tuple[str, ...]] = ("fisher",)
    fisher: Vector | None  # the diagonal of the Fisher information, one tensor per weight; None in the first task

    def prepare(self, learner: Learner) -> None:
        self.fisher = None

    def before_step(self, learner: Learner, rows: TaskRows) -> None:
        if learner.step % self.settings.every == 0:
            with statistics_kept(learner.model):
                self.unlearn(learner, rows)

    def unlearn(self, learner: Learner, rows: TaskRows) -> None:
        """Move the weights so that the rows' loss rises; gradients and optimizer state stay as they are."""
        raise NotImplementedError  # see Refresh and RefreshRelease

    def after_task(self, learner: Learner, task: Task) -> None:
        rows = learner.train_rows(task)
        rows = rows.sample(self.settings.samples or len(rows), learner.stream_generator("refresh rows"))
        found = diagonal_fisher(learner, rows, "empirical")
        decay = getattr(self.settings, "decay", 0.0)
        if self.fisher is not None and decay:
            found = [new + decay * old for new, old in zip(found, self.fisher, strict=True)]
        self.fisher = found

    def known(self, learner: Learner) -> Sequence[Tensor | float]:
        """Return the current Fisher information, 0 in the first task."""
        return self.fisher if self.fisher is not None else [0.0] * len(learner.weights)


@method("strategy", "refresh", Settings, paper="2403.13249")
class Refresh(Unlearning):
    """The paper's form: ascents of the composition's whole loss, preconditioned by the inverse Fisher information."""

    def unlearn(self, learner: Learner, rows: TaskRows) -> None:
        at, draw = self.settings, noise_of(learner)
        for _ in range(at.steps):
            gradients = learner.gradient_of(learner.total_loss(rows))
            for weight, gradient, fisher in zip(learner.weights, gradients, self.known(learner), strict=True):
                move = ascent(gradient, fisher, at.rate, at.damping)
                if at.noise:
                    move = move + at.noise * langevin_noise(normal_like(weight, draw), fisher, at.rate, at.damping)
                weight.data.add_(move)


@method("strategy", "refresh_release", ReleaseSettings, paper="2403.13249")
class RefreshRelease(Unlearning):
    """The authors' code: a step up the batch's own loss, a fixed share of each tensor's norm."""

    def unlearn(self, learner: Learner, rows: TaskRows) -> None:
        draw = noise_of(learner)
        gradients = learner.gradient_of(learner.loss(learner.outputs(rows), rows))
        for weight, gradient, fisher in zip(learner.weights, gradients, self.known(learner), strict=True):
            noise = normal_like(weight, draw)
            weight.data.add_(relative_ascent(weight.data, gradient, fisher, noise, self.settings.size))


def noise_of(learner: Learner) -> torch.Generator:
    """Return the random stream of a step's noise; the host's draws do not depend on it.

    An ascent of the whole loss still draws from the host's memory, so later draws differ from those without refresh.
    """
    return learner.stream_generator("refresh noise", learner.task_step)


def normal_like(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from N(0, 1) per entry."""
    return torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device)


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Within the block, batch normalisation uses the batch's statistics and does not record them."""
    layers: list[Any] = [one for one in model.modules() if getattr(one, "track_running_stats", False) and one.training]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
