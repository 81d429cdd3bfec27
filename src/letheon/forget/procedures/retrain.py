"""Retrain: begin again from a model that never saw the forget rows, and train it on the retain rows.

Source:  the definition of unlearning. The only method here with a guarantee, if `base` has never seen the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable, load
from letheon.core.registry import method
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainingOutcome
from letheon.forget.procedure import Procedure, ProcedureContext


@dataclass(frozen=True)
class Settings:
    base: str = "smollm2"  # the model before anything was taught: a path or id


@method("procedure", "retrain", Settings, needs={"retain"}, tiny={"base": "tiny"})
class Retrain(Procedure):
    settings: Settings

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        check_loadable(self.settings.base)

    def check(self, work: ProcedureContext) -> None:
        self.base = load(self.settings.base, device=str(work.model.device))
        if self.base.tokenizer.get_vocab() != work.model.tokenizer.get_vocab():
            raise InputError(f"{self.settings.base} has another vocabulary than {work.model.name}", "give its own base")

    def run(self, work: ProcedureContext) -> TrainingOutcome:
        work.model.model = self.base.model
        rows = work.request.retain
        steps = work.settings.steps or work.settings.epochs * math.ceil(len(rows) / work.training.batch_size)
        return finetune(work.model, rows, work.training, steps, title="training without the rows")
