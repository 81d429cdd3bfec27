"""By group: each group of a circuit takes its own step, and gradients are reconciled only where both behaviours live.

Paper:   CURE: Circuit-Aware Unlearning for LLM-based Recommendation, arXiv 2604.04982. Forget-specific modules descend
         the forget loss, retain-specific ones the retain loss, shared ones both, with the conflict projected away.
Inferred: which gradient is projected: the forget gradient, g_f ← g_f − min(0, <g_f, g_r>)/‖g_r‖² g_r, so that what is
         retained is protected.
Differs: none. Entries outside the circuit keep their values, under weight decay too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.registry import method
from letheon.core.training.gradients import Vector, dot, norm
from letheon.forget.parts import Objective, Pair, Rows, Scope, Update
from letheon.forget.separate_gradients import cosine, descend, separate_gradients

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop

FORGET, RETAIN, SHARED = 1, 2, 3


@dataclass(frozen=True)
class Settings:
    project: bool = True  # False: shared modules take the plain sum


def reconciled(forget: Vector, retain: Vector) -> Vector:
    """g_f without its component against g_r, where the two conflict (<g_f, g_r> < 0); else g_f as it is."""
    product, length = dot(forget, retain), norm(retain)
    if product >= 0 or length == 0:
        return [tensor.clone() for tensor in forget]
    return [f - product / length**2 * r for f, r in zip(forget, retain, strict=True)]


def inside(vector: Vector, groups: Sequence[Tensor], code: int) -> Vector:
    """A gradient with all entries outside one group set to 0."""
    return [tensor * (group == code) for tensor, group in zip(vector, groups, strict=True)]


def routed(forget: Vector, retain: Vector, groups: Sequence[Tensor], project: bool) -> Vector:
    """The gradient of each entry by its group: g_f, g_r, the reconciled g_f + g_r, or 0."""
    shared_forget, shared_retain = (inside(vector, groups, SHARED) for vector in (forget, retain))
    agreed = reconciled(shared_forget, shared_retain) if project else shared_forget
    parts = zip(forget, retain, agreed, shared_retain, groups, strict=True)
    return [f * (group == FORGET) + r * (group == RETAIN) + a + s for f, r, a, s, group in parts]


@method(
    "update", "by_group", Settings, paper="2604.04982", needs={"retain"}, recipes={"cure": "grad_diff+by_group@circuit"}
)
class ByGroup(Update):
    goes_with = "@circuit"  # the scope that it cannot do without

    settings: Settings
    groups: list[Tensor]

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        groups: dict[str, Tensor] | None = getattr(scope, "groups", None)
        if not groups:
            raise InputError("by_group needs a scope that has groups", "write @circuit")
        self.groups = [loop.sharding.part(name, groups[name]) for name in loop.parameters]

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        gradients = separate_gradients(loop, objective, pairs)
        forget, retain, metrics = gradients.forget, gradients.retain, gradients.metrics
        for name, code in (("forget", FORGET), ("retain", RETAIN), ("shared", SHARED)):
            parts = (inside(vector, self.groups, code) for vector in (forget, retain))
            metrics[f"cosine_{name}"] = cosine(*parts)
        parameters = list(loop.parameters.values())
        before = [parameter.detach().clone() for parameter in parameters] if loop.settings.weight_decay else []
        metrics["gradient_norm"] = descend(loop, routed(forget, retain, self.groups, self.settings.project))
        with torch.no_grad():
            for parameter, start, group in zip(parameters, before, self.groups, strict=bool(before)):
                parameter.copy_(torch.where(group == 0, start, parameter))
        return metrics
