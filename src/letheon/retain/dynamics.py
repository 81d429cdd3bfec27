"""Parameter dynamics: how far each module moves within a task and when the task changes, buffers included.

Paper:   Does Continual Learning Equally Forget All Parameters?, arXiv 2304.04158: distances per parameter between
         epochs of a task and between the same epochs of consecutive tasks. Whether the norm is L2 or L1 is not certain;
         both are here. Sensitivity and selection are [inferred].
Differs: beside the distance per parameter, which makes small modules look large by the root of their size, stands the
         distance relative to the module's own norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy

# head: the last linear layer or the vocabulary matrix (with embeddings that are tied to it); norm: weights and biases
# of normalisation; statistics: their running means and variances; bottom: the first layer of the others.
Role = Literal["head", "norm", "statistics", "embedding", "bottom", "hidden"]
Norm = Literal["l2", "l1"]
State = Mapping[str, Tensor]


def roles(model: nn.Module) -> dict[str, Role]:
    """Return the role of every parameter and running statistic by name."""
    named = {id(tensor): name for name, tensor in model.named_parameters()}  # tied weights appear once
    found: dict[str, Role] = dict.fromkeys(named.values(), "hidden")
    below: list[nn.Module] = []
    for path, module in model.named_modules():
        own = [named[id(p)] for p in module.parameters(recurse=False) if id(p) in named]
        if "Norm" in type(module).__name__:
            found |= dict.fromkeys(own, "norm")
            statistics = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_floating_point()]
            found |= {f"{path}.{name}" if path else name: "statistics" for name in statistics}
        elif isinstance(module, nn.Embedding):
            found |= dict.fromkeys(own, "embedding")
        elif any(p.dim() > 1 for p in module.parameters(recurse=False)):
            below.append(module)
    ends: list[tuple[nn.Module | None, Role]] = [(below[0] if below else None, "bottom"), (_head(model), "head")]
    for end, role in ends:
        if end is not None:
            found |= {named[id(p)]: role for p in end.parameters(recurse=False) if id(p) in named}
    return found


def _head(model: nn.Module) -> nn.Module | None:
    vocabulary = getattr(model, "get_output_embeddings", lambda: None)()
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return vocabulary if vocabulary is not None else (linear[-1] if linear else None)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all tensors that have a role, by name."""
    wanted = roles(model)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: tensors[name].detach().clone() for name in wanted}


def movement(now: State, before: State, norm: Norm = "l2") -> dict[str, float]:
    """Return d_l = ‖θ_l - θ_l'‖ / |θ_l| by module: the distance per parameter."""
    order = 2 if norm == "l2" else 1
    moved = torch._foreach_norm([now[name] - before[name] for name in now], order)
    return {name: float(length) / now[name].numel() for name, length in zip(now, moved, strict=True)}


def relative_movement(now: State, before: State) -> dict[str, float]:
    """Return ‖θ_l - θ_l'‖ / ‖θ_l'‖ by module; 0 for a module that did not move."""
    moved = movement(now, before)
    return {
        name: distance * now[name].numel() / float(before[name].norm()) if distance else 0.0
        for name, distance in moved.items()
    }


def sensitivity(across: Mapping[str, float]) -> dict[str, float]:
    """Return the movement of each module over the median movement of all modules [inferred]."""
    middle = median(across.values()) or 1.0
    return {name: value / middle for name, value in across.items()}


def selected(scores: Mapping[str, float], sizes: Mapping[str, int], budget: float) -> list[str]:
    """Select modules by falling sensitivity, above 1 and within a share of all parameters [inferred].

    Args:
        sizes: parameters per module; running statistics have none and cannot be selected.
        budget: largest share of all parameters; the most sensitive module is selected in any case.
    """
    most, total = budget * sum(sizes.values()), 0
    chosen: list[str] = []
    for name in sorted(sizes, key=lambda name: -scores[name]):
        if chosen and (scores[name] <= 1 or total + sizes[name] > most):
            break
        chosen.append(name)
        total += sizes[name]
    return chosen


@dataclass(frozen=True)
class Move:
    """A module's distance at the end of an epoch from the epoch before, or from the same epoch of the task before."""

    kind: Literal["within", "across"]  # `within` a task or `across` tasks
    module: str
    task: int
    epoch: int
    distance: float  # the distance per parameter
    relative: float  # the distance over the module's earlier norm


class ParameterDynamics:
    """Distances between snapshots of a model; snapshots that no later one is compared with are deleted.

    Attributes:
        roles: the role of every module.
        moves: all distances so far.
    """

    def __init__(self, model: nn.Module, norm: Norm = "l2") -> None:
        if norm not in get_args(Norm):
            raise InputError(f"norm {norm!r}", "use l2 or l1")
        self.model, self.norm = model, norm
        self.roles = roles(model)
        self.moves: list[Move] = []
        self._kept: dict[tuple[int, int], dict[str, Tensor]] = {}

    def snapshot(self, task: int, epoch: int) -> None:
        """Compare the weights at the end of an epoch with the earlier snapshots."""
        now = state_of(self.model)
        before = self._kept.pop((task - 1, epoch), None)
        self._compare("across", task, epoch, now, before)
        self._compare("within", task, epoch, now, self._kept.get((task, epoch - 1)))
        self._kept = {key: state for key, state in self._kept.items() if key[0] >= task - 1}
        self._kept[task, epoch] = now

    def _compare(
        self, kind: Literal["within", "across"], task: int, epoch: int, now: State, before: State | None
    ) -> None:
        if before is None:
            return
        distances, shares = movement(now, before, self.norm), relative_movement(now, before)
        self.moves += [Move(kind, name, task, epoch, distances[name], shares[name]) for name in now]

    def across(self, relative: bool = False) -> dict[str, float]:
        """Return the mean distance between the same epochs of consecutive tasks, by module."""
        values: dict[str, list[float]] = {}
        for move in self.moves:
            if move.kind == "across":
                values.setdefault(move.module, []).append(move.relative if relative else move.distance)
        return {name: fmean(found) for name, found in values.items()}

    def by_role(self, values: Mapping[str, float]) -> dict[Role, float]:
        """Return means by role, over matrices and kernels, and over all tensors of norms and statistics."""
        grouped: dict[Role, list[float]] = {}
        tensors = dict(self.model.named_parameters())
        for name, value in values.items():
            role = self.roles[name]
            if role in ("norm", "statistics") or tensors[name].dim() > 1:
                grouped.setdefault(role, []).append(value)
        return {role: fmean(found) for role, found in grouped.items()}


class DynamicsWatch(Strategy):
    """A strategy that takes a snapshot after each epoch, in `Composition([Replay(), DynamicsWatch()], "watched")`."""

    dynamics: ParameterDynamics

    def __init__(self, norm: Norm = "l2") -> None:
        super().__init__()
        self.norm: Norm = norm

    def prepare(self, learner: Learner) -> None:
        self.dynamics = ParameterDynamics(learner.model, self.norm)

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        epochs = learner.strategy.epochs(learner, learner.stream.tasks[learner.task])
        each = max(1, learner.task_steps // epochs)
        if learner.task_step % each == 0:
            self.dynamics.snapshot(learner.task, learner.task_step // each - 1)
