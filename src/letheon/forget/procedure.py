"""Standalone methods: one-shot edits of weights and procedures in several stages.

Both implement `run(work)`: change `work.model` in place and say what was done. Configuration, hashes, saving and the
audit around it are the same as a recipe's. A procedure that takes long keeps its own state in `work.run`; an edit that
is killed starts again from the model as it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from letheon.core.errors import TrainingError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import Configured
from letheon.core.runs import Run
from letheon.core.training.loop import TrainingOutcome
from letheon.core.training.settings import TrainSettings
from letheon.forget.recipe import StandaloneMethod
from letheon.forget.request import Request
from letheon.forget.settings import ForgetSettings, Result


@dataclass
class ProcedureContext:
    """The inputs of a procedure.

    Attributes:
        model: to be changed in place.
        request: what to forget and what to keep.
        settings, training: as the user set them; an edit that does not train reads only the seed.
        run: the run's folder, or None where nothing is kept.
        warnings: what a reader of the result must know; a procedure adds to them.
    """

    model: LanguageModel
    request: Request
    settings: ForgetSettings
    training: TrainSettings
    run: Run | None = None
    warnings: list[str] = field(default_factory=list)


class Procedure(Configured):
    """Base of edits and procedures.

    Attributes:
        adapts: whether it leaves an adapter; known after `attach`.
    """

    adapts: bool = False

    def check(self, work: ProcedureContext) -> None:
        """Refuse what cannot work on this model and request (`InputError`), before anything is written."""

    def attach(self, work: ProcedureContext) -> None:
        """Add an adapter's weights if the method trains them; nothing is written yet, and no weight is compared."""

    def run(self, work: ProcedureContext) -> TrainingOutcome:
        """Change the model; returns steps taken and metrics."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


class ProcedureRun:
    """A standalone method on one model and request."""

    def __init__(
        self,
        model: LanguageModel,
        request: Request,
        single: StandaloneMethod,
        settings: ForgetSettings,
        training: TrainSettings,
    ) -> None:
        self.model, self.request, self.single = model, request, single
        self.settings, self.training = settings, training
        self.start = model.parameters_hash()

    def prepare(self) -> None:
        """Encode the rows once, so that one that does not fit is refused before anything is written."""
        encoder = self.model.encoder()
        encoder.encode_all(self.request.forget, "forget row")
        encoder.encode_all(self.request.retain, "retain row")
        self.procedure: Procedure = self.single.part.make()
        self.procedure.check(self._work(None))
        self.procedure.attach(self._work(None))

    def _work(self, run: Run | None) -> ProcedureContext:
        return ProcedureContext(self.model, self.request, self.settings, self.training, run)

    def work(self, run: Run | None) -> Result:
        """Run the method and check the weights that it leaves."""
        before = _weights(self.model)
        work = self._work(run)
        started = time.monotonic()
        outcome = self.procedure.run(work)
        outcome.seconds = time.monotonic() - started
        after = _weights(self.model)
        change = {name: tensor - before[name] if name in before else tensor for name, tensor in after.items()}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in after.values()):
            raise TrainingError(f"{self.single} left weights that are not finite", "choose milder options")
        moved = max(float(tensor.abs().max()) for tensor in change.values())
        if moved == 0:
            work.warnings.append(f"{self.single} changed no weight")
        kept = _only_changed(change) if self.settings.keep_update else {}
        return Result(self.model, outcome, moved, self.request, work.warnings, change=kept)


def _weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}


def _only_changed(change: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: tensor for name, tensor in change.items() if bool(tensor.any())}
