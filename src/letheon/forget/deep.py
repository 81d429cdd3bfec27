"""A deep run (`depth=deep`): a method suppresses, then `undo` distils its model into a noised copy.

It is one job of two stages. The first is a run of its own in the folder `shallow/` of the run; the second has its
metrics, its checkpoints and the final `model/` in the run's folder. A killed run continues in the stage where it was.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.atomic import is_whole, read_json
from letheon.core.errors import InputError, Interrupted
from letheon.core.model.formats import base_of
from letheon.core.processes import is_main_process
from letheon.core.runs import Run
from letheon.core.training.checkpoints import drop_checkpoints
from letheon.core.training.loop import TrainingOutcome
from letheon.core.training.settings import TrainSettings
from letheon.forget.procedure import ProcedureRun
from letheon.forget.recipe import Recipe, StandaloneMethod, read_method
from letheon.forget.recipe_job import COLLAPSED, RecipeJob
from letheon.forget.request import Request
from letheon.forget.saving import load_weights, saved
from letheon.forget.settings import ForgetSettings, Result, resolve

FIRST = "shallow"  # folder of the first stage's run
# training settings of the first stage that hold for the second as well: they are the machine's, not the method's
SHARED = (
    "precision",
    "attention",
    "gradient_checkpointing",
    "shard",
    "seed",
    "checkpoint_seconds",
    "checkpoint_steps",
)


@dataclass(frozen=True)
class SecondStage:
    """The distillation that follows a method.

    Attributes:
        method: `undo` with its options.
        settings, training: its own.
    """

    method: StandaloneMethod
    settings: ForgetSettings
    training: TrainSettings

    @property
    def steps(self) -> int:
        """The largest number of optimizer steps."""
        return self.method.part.settings.steps or self.settings.steps

    def config(self) -> dict[str, Any]:
        """All values that decide it, for the run's configuration."""
        training = dataclasses.asdict(self.training)
        return {"method": str(self.method), "recipe": self.method.config(), "steps": self.steps, "training": training}


def second_stage(
    recipe: Recipe | StandaloneMethod, settings: ForgetSettings, training: TrainSettings
) -> SecondStage | None:
    """Return the second stage of a run; None if the run is shallow.

    Raises:
        InputError: an unknown option of `undo`, or a first stage that leaves an adapter or weights in fewer bits.
    """
    if settings.depth == FIRST:
        return None
    method = read_method("undo" + settings.depth.removeprefix("deep"))
    assert isinstance(method, StandaloneMethod)
    adapts = recipe.scope.method.name == "lora" if isinstance(recipe, Recipe) else recipe.part.method.adapter
    if adapts:
        raise _adapter_left(recipe)
    if training.base != "float32":
        problem = f"base={training.base} holds weights that depth=deep cannot noise and train"
        raise InputError(problem, "use base=float32, or depth=shallow")
    if training.optimizer != "adamw" or training.offload:
        held = "offload" if training.offload else f"optimizer={training.optimizer}"
        raise InputError(f"{held} saves memory on AdamW's states, with which depth=deep distils", "leave it out")
    shared: dict[str, Any] = {name: getattr(training, name) for name in SHARED}
    if training.micro_batch_size:
        shared["micro_batch_size"] = training.micro_batch_size
    return SecondStage(method, *resolve(method, None, None, shared))


def _adapter_left(recipe: Recipe | StandaloneMethod) -> InputError:
    problem = f"{recipe} trains an adapter, and depth=deep noises and trains all weights after it"
    return InputError(problem, "let the weights themselves move, or use depth=shallow")


class DeepJob:
    """A method and the distillation after it, on one model and request.

    Args:
        first: the job of the method.
        recipe: the method.
        second: the distillation.
        config: makes the configuration of the first stage's own run; called once the weights are hashed.
        out: the run's folder, None where nothing is written.
    """

    def __init__(
        self,
        first: RecipeJob | ProcedureRun,
        recipe: Recipe | StandaloneMethod,
        second: SecondStage,
        config: Callable[[str], dict[str, Any]],
        out: Path | None,
    ) -> None:
        self.first: RecipeJob | ProcedureRun | None = first
        self.model, self.request, self.start = first.model, first.request, first.start
        self.recipe, self.second, self.config = recipe, second, config
        self.keeps_update = first.settings.keep_update
        self.folder = out / FIRST if out is not None else None
        self.seconds = 0.0

    @property
    def suppressed(self) -> bool:
        """Whether the first stage has ended and its model is saved."""
        folder = self.folder
        return folder is not None and (folder / "result.json").is_file() and is_whole(folder / "model")

    def prepare(self) -> None:
        """Prepare the first stage, unless it has ended; both refuse what cannot work before anything is written."""
        started = time.monotonic()
        if (base := base_of(self.model.base())) != "float32":
            problem = f"{self.model.name} is in {base}, and depth=deep noises and trains float32 weights"
            raise InputError(problem, "load it with base='float32', or use depth=shallow")
        self.second.method.part.make()
        if self.first is not None and not self.suppressed:
            self.first.prepare()
            if isinstance(self.first, ProcedureRun) and self.first.procedure.adapts:
                raise _adapter_left(self.recipe)
        self.seconds = time.monotonic() - started

    def work(self, run: Run | None) -> Result:
        """Run both stages; a model that collapsed in the first is not distilled."""
        result = self._read() if self.suppressed else self._suppress(run)
        self.first = None  # frees its optimizer states
        if result.outcome.stopped == COLLAPSED:
            return result
        shallow = _stage(str(self.recipe), result)
        started = time.monotonic()
        job = ProcedureRun(self.model, result.request, self.second.method, self.second.settings, self.second.training)
        job.prepare()
        deep = job.work(run)
        deep.outcome.seconds = time.monotonic() - started
        result.stages = [shallow, _stage(str(self.second.method), deep)]
        result.warnings += deep.warnings
        if self.keeps_update:
            where = f"{FIRST}/update holds the change by {self.recipe} alone" if run else "no update is kept"
            result.warnings.append(f"{where}: what the distillation changed cannot be added to other weights")
        result.moved, result.change = max(result.moved, deep.moved), {}
        result.outcome = TrainingOutcome(
            result.outcome.steps + deep.outcome.steps,
            ", then ".join(map(_words, result.stages)),
            result.outcome.history + deep.outcome.history,
            result.outcome.seconds + deep.outcome.seconds,
        )
        return result

    def _suppress(self, run: Run | None) -> Result:
        assert self.first is not None
        started, inner = time.monotonic(), None
        if self.folder is not None and is_main_process():
            begun = (self.folder / "config.json").is_file()
            self.request.write(self.folder / "request.json")
            inner = Run.open(self.folder) if begun else Run.create(self.folder, self.config(self.start))
            inner.tidy()
        elif self.folder is not None:
            inner = Run(self.folder)
        try:
            result = self.first.work(inner)
        except Interrupted as stopped:
            raise Interrupted(stopped.problem, f"continue with --resume {run.folder}" if run else "") from None
        result.outcome.seconds = self.seconds + time.monotonic() - started
        if inner is None or not is_main_process():
            return result
        result.request.write(inner.folder / "request.json")  # with the values that were found
        return saved(result, inner, str(self.recipe))

    def _read(self) -> Result:
        """Load the model and the result of a first stage that has ended."""
        assert self.folder is not None
        found = read_json(self.folder / "result.json")
        if is_main_process():
            drop_checkpoints(Run(self.folder))  # it may have been killed before it did so itself
        self.model.merge_adapter()  # as the first stage did
        load_weights(self.model, self.folder / "model")
        outcome = TrainingOutcome(found["steps"], found["stopped"], seconds=found["seconds"])
        request = Request.read(self.folder / "request.json")
        result = Result(self.model, outcome, found["moved"], request, found["warnings"])
        for name in ("scope", "exposure"):
            if (file := self.folder / f"{name}.json").is_file():
                setattr(result, "table" if name == "scope" else name, read_json(file))
        return result


def full_name(recipe: Recipe | StandaloneMethod | str, second: SecondStage | None) -> str:
    """Name the method of a run, with the distillation after it."""
    return f"{recipe}, then {second.method}" if second else str(recipe)


def _stage(method: str, result: Result) -> dict[str, Any]:
    outcome = result.outcome
    seconds = round(outcome.seconds, 2)
    return {
        "method": method,
        "steps": outcome.steps,
        "seconds": seconds,
        "stopped": outcome.stopped,
        "moved": result.moved,
    }


def _words(stage: dict[str, Any]) -> str:
    return f"{stage['method']}: {stage['steps']} steps in {stage['seconds']:.0f} s ({stage['stopped']})"
