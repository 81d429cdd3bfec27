"""Bregman: one objective of many methods, the new rows' loss and two Bregman divergences, of outputs and of weights.

Paper:   Wang et al., A Unified and General Framework for Continual Learning, arXiv 2403.13249: the general objective
         L_CE + α D_Φ(outputs, z) + β D_Ψ(weights, old weights), of which other methods are special cases.
Does:    `preset` is such a case: er, der, lwf, cpr or ewc, each with the step of the strategy of its name where there
         is one. `target`, `phi` and `psi` choose others, such as the entropy bonus of CPR with the penalty of EWC.
Differs: divergences of outputs are means over rows (of logits: over rows and logits). The weights' divergence from
         several tasks is that from their summed quadratics, as `ewc` has it. VCL needs a posterior of the weights and
         is left out; its divergence is here as a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from letheon.core.registry import Checked, method
from letheon.core.training.gradients import Vector
from letheon.retain.learner import Learner
from letheon.retain.memory import Policy
from letheon.retain.row_gradients import diagonal_fisher
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.ewc import sum_of_quadratics
from letheon.retain.strategies.lwf import old_classes
from letheon.retain.strategies.replay import Replaying
from letheon.retain.stream import Task

Convex = Callable[[Tensor], Tensor]
Preset = Literal["none", "er", "der", "lwf", "cpr", "ewc"]
Target = Literal["none", "label", "stored", "old", "uniform"]
Phi = Literal["entropy", "square"]
Psi = Literal["none", "quadratic"]
PRESETS: dict[str, tuple[Target, Phi, Psi]] = {
    "er": ("label", "entropy", "none"),
    "der": ("stored", "square", "none"),
    "lwf": ("old", "entropy", "none"),
    "cpr": ("uniform", "entropy", "none"),
    "ewc": ("none", "entropy", "quadratic"),
}

# Divergences


def bregman(convex: Convex, p: Tensor, q: Tensor) -> Tensor:
    """D_F(p, q) = F(p) - F(q) - <∇F(q), p - q>, summed over all entries; differentiable in both.

    Args:
        convex: F, a scalar of a tensor.
    """
    value, slope = torch.func.jvp(convex, (q,), (p - q,))  # type: ignore[misc]  # two without auxiliary outputs
    return convex(p) - value - slope


def negative_entropy(p: Tensor) -> Tensor:
    """Σ p log p (nats). Its divergence is KL(p ‖ q) of distributions.

    From a label to the model it is ER's cross-entropy; from the old model's distribution to the model the distillation
    of LwF, iCaRL and FDR; from the model to the uniform distribution CPR's entropy bonus, up to a constant.
    """
    return torch.xlogy(p, p).sum()


def squared_norm(p: Tensor) -> Tensor:
    """Σ p². Its divergence is the squared distance: DER's, between logits."""
    return p.square().sum()


def quadratic(fisher: Tensor) -> Convex:
    """½ Σ F θ². Its divergence between weights is EWC's penalty."""
    return lambda weights: 0.5 * (fisher * weights.square()).sum()


def gaussian_log_partition(natural: Float[Tensor, "2 n"]) -> Tensor:
    """Σ log-partition of normal distributions by μ/σ² and -1/(2σ²): D(old, new) is KL(new ‖ old), VCL's term."""
    first, second = natural
    return (-first.square() / (4 * second) - 0.5 * torch.log(-2 * second)).sum()


def divergence(logits: Float[Tensor, "n classes"], target: Tensor, kind: Target, phi: Phi) -> Float[Tensor, ""]:
    """D_Φ of a model's outputs and z, mean over rows (of stored logits by `square`: over rows and logits).

    The entropy's divergence runs from z to the model, except from the model to the uniform distribution. The squared
    distance is that of logits where logits were stored, else of probabilities.

    Args:
        target: z: labels [n], logits [n, classes], or for `uniform` anything.
    """
    if kind == "stored" and phi == "square":
        return bregman(squared_norm, logits, target) / logits.numel()
    now, n = _probabilities(logits), len(logits)
    if kind == "label":
        z = functional.one_hot(target, logits.shape[1]).to(now)
    else:
        z = torch.full_like(now, 1 / now.shape[1]) if kind == "uniform" else _probabilities(target)
    if phi == "square":
        return (bregman(squared_norm, now, z) / n).to(logits)
    first, second = (now, z) if kind == "uniform" else (z, now)
    return (bregman(negative_entropy, first, second) / n).to(logits)


def _probabilities(logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
    """In float64, since in float32 an improbable class has a probability of zero; where the device has none, beside."""
    wide = (logits.cpu() if logits.device.type == "mps" else logits).double()
    return wide.softmax(-1).clamp(min=torch.finfo(torch.float64).tiny)


# The strategy


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity",), not_negative=("alpha", "beta", "samples")):
    """Options of the objective.

    Attributes:
        preset: a method of which `target`, `phi` and `psi` make the step; `none` takes these three as they are given.
        target: what outputs are held to: labels or stored logits of old rows, the old model's outputs on the new rows,
            or the uniform distribution on the new rows.
        phi: convex function of outputs.
        psi: convex function of weights: `quadratic` in the Fisher information, or none.
        alpha, beta: weights of the two divergences.
        capacity, batch, policy, fill: of the memory, as in `replay`.
        samples: rows for the estimate of the Fisher information; 0 takes all.
    """

    preset: Preset = "none"
    target: Target = "label"
    phi: Phi = "entropy"
    psi: Psi = "none"
    alpha: float = 1.0
    beta: float = 10.0  # ewc's
    capacity: int = 200
    batch: int = 0
    policy: Policy = "reservoir"
    fill: Literal["step", "task"] = "step"
    samples: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset in PRESETS:
            for name, value in zip(("target", "phi", "psi"), PRESETS[self.preset], strict=True):
                object.__setattr__(self, name, value)


@method(
    "strategy",
    "bregman",
    Settings,
    paper="2403.13249",
    tiny=({}, {"preset": "der"}, {"preset": "lwf"}, {"preset": "cpr", "alpha": 0.1}, {"preset": "ewc"}),
)
class Bregman(Replaying):
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})  # distributions over a vocabulary need too much space
    keeps: ClassVar[tuple[str, ...]] = ("memory", "old", "fisher", "anchor")
    old: Tensor | None  # outputs [rows of the task, classes] before the task
    fisher: Vector | None  # the Fisher information, summed over tasks; None in the first
    anchor: Vector | None

    def prepare(self, learner: Learner) -> None:
        self.remembers = self.settings.target in ("label", "stored")
        self.stored = {}
        self.memory = learner.memory(self.settings.capacity if self.remembers else 1, self.settings.policy)
        self.old = self.fisher = self.anchor = None

    def before_task(self, learner: Learner, task: Task) -> None:
        if self.settings.target == "old" and learner.task > 0:
            self.old = learner.map_rows(learner.train_rows(task), learner.outputs)

    # D_Φ on old rows

    def replay(self, learner: Learner, rows: TaskRows) -> TaskRows | None:
        return self.draw(rows) if self.remembers else None

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        if self.remembers:
            super().after_step(learner, rows)

    def replay_loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        settings = self.settings
        if settings.target == "label":
            return settings.alpha * self._of_own_classes(learner, rows, outputs)
        return settings.alpha * divergence(outputs, rows.kept["logits"], "stored", settings.phi)

    def _of_own_classes(self, learner: Learner, rows: TaskRows, outputs: Tensor) -> Tensor:
        """D_Φ of outputs; in task-incremental streams of the classes of each row's task."""
        kind, phi, mask = self.settings.target, self.settings.phi, getattr(learner, "mask", None)
        if mask is None:
            return divergence(outputs, rows.targets, kind, phi)
        parts = []
        for task in torch.unique(rows.task).tolist():
            mine, classes = rows.task == task, (mask[task] == 0).nonzero().flatten()
            targets = torch.searchsorted(classes, rows.targets[mine])
            parts.append(mine.sum() * divergence(outputs[mine][:, classes], targets, kind, phi))
        return torch.stack(parts).sum() / len(rows)

    # D_Φ on new rows, and D_Ψ

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor | None:
        settings, terms = self.settings, []
        if settings.target == "stored":
            self.stored = {"logits": outputs.detach()}
        elif settings.target == "uniform":
            terms.append(settings.alpha * self._of_own_classes(learner, rows, outputs))
        elif settings.target == "old" and self.old is not None:
            old = self.old[rows.index]
            parts = [divergence(outputs[:, c], old[:, c], "old", settings.phi) for c in old_classes(learner)]
            terms.append(settings.alpha * torch.stack(parts).sum())
        if self.fisher is not None and self.anchor is not None:
            moved = zip(learner.weights, self.anchor, self.fisher, strict=True)
            apart = torch.stack([bregman(quadratic(fisher), now, before) for now, before, fisher in moved])
            terms.append(settings.beta * apart.sum())
        return torch.stack(terms).sum() if terms else None

    def after_task(self, learner: Learner, task: Task) -> None:
        if self.remembers and self.settings.fill == "task":
            rows = learner.train_rows(task)
            kept = {"logits": learner.map_rows(rows, learner.outputs)} if self.settings.target == "stored" else {}
            self.memory.add(rows, **kept)
        if self.settings.psi == "quadratic":
            rows = learner.train_rows(task)
            rows = rows.sample(self.settings.samples or len(rows), learner.generator)
            fisher, weights = diagonal_fisher(learner, rows, "true"), list(learner.snapshot().values())
            if self.fisher is not None and self.anchor is not None:
                fisher, weights = sum_of_quadratics(self.fisher, self.anchor, fisher, weights)
            self.fisher, self.anchor = fisher, weights
