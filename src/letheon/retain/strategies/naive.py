"""Naive: the model learns each task alone, with nothing against forgetting; the lower bound of every comparison."""

from __future__ import annotations

from typing import ClassVar

from letheon.core.registry import method
from letheon.retain.strategy import NoSettings, Strategy


@method("strategy", "naive", NoSettings)
class Naive(Strategy):
    divisible: ClassVar[bool] = True
    of_weights: ClassVar[tuple[str, ...]] = ()
