"""Task vector: fine-tune on the rows to forget, and subtract what that changed.

Paper:   Ilharco et al., Editing Models with Task Arithmetic, arXiv 2212.04089: θ = θ₀ − a (θ_ft − θ₀).
Differs: none. The paper chooses a on held-out data; here it is an option, 1 by default. An adapter is merged first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainingOutcome
from letheon.forget.procedure import Procedure, ProcedureContext


@dataclass(frozen=True)
class Settings(Checked, positive=("scale",)):
    scale: float = 1.0  # a


@torch.no_grad()
def negate(parameters: Sequence[Tensor], start: Sequence[Tensor], scale: float) -> None:
    """θ ← θ₀ − a (θ − θ₀), in place."""
    for parameter, origin in zip(parameters, start, strict=True):
        parameter.copy_(origin - scale * (parameter - origin))


@method("edit", "task_vector", Settings, paper="2212.04089")
class TaskVector(Procedure):
    settings: Settings

    def run(self, work: ProcedureContext) -> TrainingOutcome:
        work.model.merge_adapter()
        parameters = list(work.model.model.parameters())
        start = [parameter.detach().clone() for parameter in parameters]
        rows = work.request.forget
        steps = work.settings.steps or work.settings.epochs * math.ceil(len(rows) / work.training.batch_size)
        outcome = finetune(work.model, rows, work.training, steps, title="learning what is to be subtracted")
        negate(parameters, start, self.settings.scale)
        return outcome
