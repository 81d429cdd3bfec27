"""Rewards of one's own: a function in a file, named `FILE.py:FUNCTION`, whose every answer is checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from traceback import extract_tb
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.retain.rows import TaskRows

FORMS = "def {0}(text, example), or for classes def {0}(drawn, rows)"


class FileReward:
    """A reward function that was read from a file; the file is run once, here.

    Args:
        name: `FILE.py:FUNCTION`.

    Raises:
        InputError: the file cannot be run, has no such function, or the function does not take two arguments.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path, _, self.function = name.rpartition(":")
        self.reward = self._read()

    def of_text(self, text: str, example: Example) -> float:
        """Return the reward of one text.

        Raises:
            InputError: the function raises an error, or returns no finite number.
        """
        given = f"for the text {text[:60]!r} of row {example.id}"
        found = self._asked(given, text, example)
        try:
            value = math.nan if isinstance(found, str) else float(found)
        except (TypeError, ValueError, RuntimeError):  # torch: a tensor of many numbers
            value = math.nan
        if not math.isfinite(value):
            problem = f"{self.name} returned {_shown(found)} {given}"
            raise InputError(problem, "return a finite number for every text, 0 where nothing is right")
        return value

    def of_classes(self, drawn: Int[Tensor, "n group"], rows: TaskRows) -> Float[Tensor, "n group"]:
        """Return the rewards of drawn classes.

        Raises:
            InputError: the function raises an error, or returns no finite numbers of the drawn classes' shape.
        """
        shape = tuple(drawn.shape)
        given = f"for drawn classes of shape {shape}"
        found = self._asked(given, drawn, rows)
        remedy = f"return a tensor of finite numbers of the shape of `drawn`, {shape}"
        if not isinstance(found, Tensor) or tuple(found.shape) != shape:
            raise InputError(f"{self.name} returned {_shown(found)} {given}", remedy)
        if not bool(torch.isfinite(found).all()):
            raise InputError(f"{self.name} returned numbers that are not finite {given}", remedy)
        return found.to(drawn.device, torch.float32)

    def _read(self) -> Callable[..., Any]:
        try:
            found = run_path(self.path).get(self.function)
        except SyntaxError as error:
            problem = f"{self.path} cannot be read for {self.function}: {error.msg} in line {error.lineno}"
            raise InputError(problem, f"correct it; `python {self.path}` shows the place") from None
        except ImportError as error:
            remedy = "install it where letheon is installed; files beside the reward's file are not imported"
            raise InputError(f"{self.path} cannot be run for {self.function}: {error}", remedy) from None
        except (Exception, SystemExit) as error:
            problem = f"{self.path} cannot be run for {self.function}: {self._cause(error)}"
            raise InputError(problem, "let the file define the function and do nothing else") from None
        if not callable(found):
            raise InputError(f"{self.path} has no function {self.function!r}", "write FILE.py:FUNCTION")
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):  # a function written in C does not tell
            return found
        try:
            signature.bind(None, None)
        except TypeError:
            problem = f"{self.name} takes {signature}, and is given two arguments"
            raise InputError(problem, f"write {FORMS.format(self.function)}") from None
        return found

    def _asked(self, given: str, *arguments: Any) -> Any:
        try:
            return self.reward(*arguments)
        except Exception as error:
            problem = f"{self.name} failed {given}: {self._cause(error)}"
            raise InputError(problem, "correct the function; it must give a reward for whatever is drawn") from error

    def _cause(self, error: BaseException) -> str:
        """Name an error, what it says, and the last line of the file that led to it."""
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if Path(frame.filename) == Path(self.path)]
        place = f" in line {lines[-1]}" if lines else ""
        return f"{type(error).__name__}{place}" + (f": {error}" if str(error) else "")


def _shown(found: Any) -> str:
    """Show a value that a function returned, in a few words."""
    if isinstance(found, Tensor) and found.numel() != 1:
        return f"a tensor of shape {tuple(found.shape)}"
    text = repr(found)
    return text if len(text) <= 60 else f"a {type(found).__name__}"
