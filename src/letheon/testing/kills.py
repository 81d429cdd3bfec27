"""Simulated kills: contexts in which a run stops dead at a chosen point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.model.models import LanguageModel
from letheon.retain.learner import Learner


class Killed(Exception):
    """Raised where a process would be killed."""


@contextmanager
def killed_before_step(number: int) -> Iterator[None]:
    """Raise `Killed`, within the block, before the optimizer's step `number` (from 0)."""
    taken = 0

    def count(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > number:
            raise Killed

    with register_optimizer_step_pre_hook(count):
        yield


@contextmanager
def killed_before_saving() -> Iterator[None]:
    """Raise `Killed`, within the block, before a model is saved."""
    with patch.object(LanguageModel, "save", side_effect=Killed):
        yield


@contextmanager
def killed_in_learning(step: int) -> Iterator[None]:
    """Raise `Killed`, within the block, where a learner would begin a step (from 0)."""
    whole = Learner.one_step

    def one_step(self: Learner, rows: Any) -> None:
        if self.step == step:
            raise Killed
        whole(self, rows)

    with patch.object(Learner, "one_step", one_step):
        yield
