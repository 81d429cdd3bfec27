"""Options of training that several verbs share. This file imports the settings, and with them torch."""

from __future__ import annotations

from typing import Annotated, Any

from letheon.cli.options import Given
from letheon.cli.shared import CONTINUED, TRAINING
from letheon.core.training.settings import TrainSettings
from letheon.forget.settings import ForgetSettings
from letheon.retain.settings import LearnSettings

METHODS = "the method's, else "
# one run; and every run of several, which have their seeds from elsewhere
Forgetting = Annotated[dict[str, Any], Given(ForgetSettings, TrainSettings, panel=TRAINING, before_default=METHODS)]
ForgettingEach = Annotated[
    dict[str, Any],
    Given(ForgetSettings, TrainSettings, panel=TRAINING, without=("seed", "depth"), before_default=METHODS),
]
Learning = Annotated[dict[str, Any], Given(LearnSettings, panel=TRAINING)]

NOT_EACH = ("shard", "seed", "checkpoint_seconds", "checkpoint_steps")
LearningEach = Annotated[dict[str, Any], Given(LearnSettings, panel=TRAINING, without=NOT_EACH)]
LearningOn = Annotated[dict[str, Any], Given(LearnSettings, panel=CONTINUED, without=(*NOT_EACH, "attention"))]
