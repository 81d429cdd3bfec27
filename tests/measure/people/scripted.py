"""A responder whose answers a test writes, and the place of the shared data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DATA = Path(os.environ.get("LETHEON_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def shared(name: str) -> Path:
    """The folder of a data set; the test is skipped where it is not at hand."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set LETHEON_DATA")
    return folder


@dataclass(frozen=True)
class Scripted:
    """Answers by functions of the conversation."""

    say: Callable[[Sequence[str]], str] = lambda turns: ""
    weigh: Callable[[Sequence[str], Sequence[str]], Sequence[float]] = lambda turns, options: [1.0] * len(options)
    name: str = "scripted"

    def facts(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    def answers(self, conversations: Sequence[Sequence[str]], max_new_tokens: int) -> list[str]:
        return [self.say(turns) for turns in conversations]

    def option_logp(self, questions: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[np.ndarray]:
        with np.errstate(divide="ignore"):
            return [np.log(np.array(self.weigh(turns, options), dtype=float)) for turns, options in questions]
