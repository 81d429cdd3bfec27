"""Settings and result of a forgetting run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from letheon.core.errors import InputError, nearest
from letheon.core.model.attention import check_attention
from letheon.core.registry import check_settings
from letheon.core.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

    from letheon.core.model.models import LanguageModel
    from letheon.core.training.loop import TrainingOutcome
    from letheon.forget.recipe import Recipe, StandaloneMethod
    from letheon.forget.request import Request

Stop = Literal["steps", "control", "auto", "facts"]
CLOSED: tuple[Stop, ...] = ("auto", "facts")  # the closed loop decides (`letheon.forget.closed_loop`)


@dataclass(frozen=True)
class ForgetSettings:
    """Settings of a forgetting run, beside its recipe and its training settings.

    The command line shows each line below as the help of an option.

    Attributes:
        epochs: passes over the forget rows, unless the number of steps is given.
        steps: optimizer steps; 0 derives them from the epochs.
        stop: when the run ends: `steps` takes all steps; `control` ends once the tokens of the fact are as improbable
            as they are for unknown subjects; `auto` ends once the facts are gone, the retain rows as likely as before
            and the answers fluent, within three times the epochs, and may raise the learning rate; `facts` does the
            same at the given rate.
        extrapolate: where facts alone are left, `auto` and `facts` try the change of the weights up to 1.5 times as
            long, and end the run with the least factor with which every goal is reached.
        lessen: where `auto` or `facts` ends a run, scale the change of the weights down as far as the facts stay
            forgotten, with a tenth to spare; not where it was made longer.
        least_steps: steps that are taken at least before `control` ends the run.
        collapse: end the run when the model breaks down: for three steps the retain loss is above 4 nats and 3 above
            its start, or the forget loss is above twice that of a uniform guess.
        keep_update: also write the change of the weights, `update.safetensors`, which can be added again after further
            training.
        depth: `shallow` ends with the method; `deep` then distils its model into a noised copy of itself (`undo`), so
            that what was only suppressed is harder to teach again: some times the cost. `deep:alpha=.4,steps=800` sets
            options of `undo`.
    """

    epochs: int = 10
    steps: int = 0
    stop: Stop = "steps"
    extrapolate: bool = True
    lessen: bool = False
    least_steps: int = 1
    collapse: bool = True
    keep_update: bool = False
    depth: str = "shallow"

    def __post_init__(self) -> None:
        check_settings(self, positive=("epochs",))
        if self.steps < 0 or self.least_steps < 0:
            raise InputError(f"steps {self.steps}, least steps {self.least_steps}", "use 0 or more")
        if self.depth not in ("shallow", "deep") and not self.depth.startswith("deep:"):
            raise InputError(
                f"depth {self.depth!r}", "use shallow, deep, or deep:OPTION=VALUE,... with options of undo"
            )


@dataclass
class Result:
    """The result of a forgetting run.

    Attributes:
        model: the unlearned model in memory (the given object, changed in place).
        outcome: number of steps, reason for the end, metrics.
        moved: largest absolute change of a weight.
        warnings: remarks that a reader must know.
        folder: the run's folder with the model; None if nothing was saved.
        request: the request, with values found where they were needed.
        table: the scope's selection, one row per layer or module; empty if it has no table.
        change: change of each trained weight by name, with `keep_update`.
        exposure: what the sampler's plan let the model see, where the sampler reports it.
        stages: with `depth=deep`, method, steps, seconds, end and largest change of both stages; `outcome` has the
            sums, `moved` the larger change.
    """

    model: LanguageModel
    outcome: TrainingOutcome
    moved: float
    request: Request
    warnings: list[str] = field(default_factory=list)
    folder: Path | None = None
    table: list[dict[str, Any]] = field(default_factory=list)
    change: dict[str, Tensor] = field(default_factory=dict)
    exposure: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)


def resolve(
    recipe: Recipe | StandaloneMethod,
    settings: ForgetSettings | None,
    training: TrainSettings | None,
    options: Mapping[str, Any],
) -> tuple[ForgetSettings, TrainSettings]:
    """Return all settings of a run: single options, else the given settings, else the recipe's own, else defaults.

    A recommended `stop=auto` becomes `steps` where a number of steps is given, and `facts` where a learning rate is.

    Raises:
        InputError: an option is a field of neither class, or there is no such attention.
    """
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
    check_attention(chosen[1].attention)
    return chosen[0], chosen[1]
