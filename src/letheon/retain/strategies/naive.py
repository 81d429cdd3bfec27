"""Naive: the model learns each task alone, with nothing against forgetting; the lower bound of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

from letheon.core.registry import method
from letheon.retain.strategy import Strategy


@dataclass(frozen=True)
class Settings:
    pass


@method("strategy", "naive", Settings)
class Naive(Strategy):
    pass
