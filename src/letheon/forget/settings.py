"""What a forgetting run is told and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel
from letheon.core.registry import check_settings
from letheon.core.training.loop import TrainingOutcome, TrainSettings
from letheon.forget.recipe import Recipe, StandaloneMethod
from letheon.forget.request import Request

Stop = Literal["steps", "control", "auto", "facts"]
CLOSED: tuple[Stop, ...] = ("auto", "facts")  # those of `letheon.forget.closed_loop`


@dataclass(frozen=True)
class ForgetSettings:
    """What a forgetting run is told beside its recipe and its training settings.

    Attributes:
        epochs: passes over the forget rows, where `steps` is not given.
        steps: optimizer steps; 0 derives them from the epochs.
        stop: `steps` takes them all; `control` ends when the forget tokens are as improbable as they are under
            unknown subjects (`letheon.core.scoring.spans`), but not before `least_steps`; `auto` ends when the facts
            are gone, the retain rows kept and the answers fluent (`letheon.forget.closed_loop`), within three times
            the epochs, and may raise the learning rate; `facts` does the same at the given rate. A recommended `auto`
            becomes `steps` where steps are given, and `facts` where a learning rate is.
        least_steps: with `stop=control`.
        collapse: end when the model falls apart (retain loss up by 3 nats and above 4, or forget loss above twice
            that of a uniform guess) for three steps.
        keep_update: also write the change of the weights, `update.safetensors`, to be applied again after further
            training (`letheon.forget.reapply`).
    """

    epochs: int = 10
    steps: int = 0
    stop: Stop = "steps"
    least_steps: int = 1
    collapse: bool = True
    keep_update: bool = False

    def __post_init__(self) -> None:
        check_settings(self, positive=("epochs",))
        if self.steps < 0 or self.least_steps < 0:
            raise InputError(f"steps {self.steps}, least steps {self.least_steps}", "use 0 or more")


@dataclass
class Result:
    """What forgetting gives.

    Attributes:
        model: the model after, in memory (the same object that was given, changed).
        outcome: steps, why it ended, metrics.
        moved: largest absolute change of a weight.
        warnings: what a reader must know.
        folder: where model and run lie; None when nothing was kept.
        request: the request, with values found where they were needed.
        table: how the scope chose the weights, where it has something to say.
        change: change of each trained weight by name, where `keep_update` asked for it.
    """

    model: LanguageModel
    outcome: TrainingOutcome
    moved: float
    request: Request
    warnings: list[str] = field(default_factory=list)
    folder: Path | None = None
    table: list[dict[str, Any]] = field(default_factory=list)
    change: dict[str, Tensor] = field(default_factory=dict)


def resolve(
    recipe: Recipe | StandaloneMethod,
    settings: ForgetSettings | None,
    training: TrainSettings | None,
    options: Mapping[str, Any],
) -> tuple[ForgetSettings, TrainSettings]:
    """Settings from: single options, else those given, else what goes with the recipe's name, else defaults."""
    recommended = dict(recipe.recommended)
    if recommended.get("stop") == "auto":
        recommended["stop"] = "steps" if options.get("steps") else "facts" if "learning_rate" in options else "auto"
    chosen: list[Any] = []
    rest = dict(options)
    for kind, given in ((ForgetSettings, settings), (TrainSettings, training)):
        names = {item.name for item in dataclasses.fields(kind)}
        base = given or kind(**{name: value for name, value in recommended.items() if name in names})
        mine = {name: rest.pop(name) for name in list(rest) if name in names}
        chosen.append(dataclasses.replace(base, **mine))
    if rest:
        known = [item.name for kind in (ForgetSettings, TrainSettings) for item in dataclasses.fields(kind)]
        name = next(iter(rest))
        raise InputError(f"forget has no option {name!r}", nearest(name, known))
    return chosen[0], chosen[1]
