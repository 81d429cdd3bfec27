"""Errors of the package: each says what was asked, what was wrong, and what to do.

Each class has its exit code, so that Python and shell users can tell the same cases apart.
"""

from __future__ import annotations

from collections.abc import Sequence


class LetheonError(Exception):
    """An error that the caller can understand and fix.

    Args:
        problem: one line on what was asked and what was wrong.
        remedy: what to do about it; shown on its own line.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


class InputError(LetheonError):
    """Invalid input, refused before any model is loaded; nothing has been written."""

    exit_code = 2


class TrainingError(LetheonError):
    """Training that cannot continue (NaN loss, collapse, no weight changed); the last good checkpoint stays."""

    exit_code = 4


class Interrupted(LetheonError):
    """A run that was interrupted and saved its state: continue it with `--resume`."""

    exit_code = 75


def nearest(name: str, known: list[str]) -> str:
    """Suggest the closest known name (`did you mean 'npo'?`), or list all known names if none is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(sorted(set(known)))


def some_of_them(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and how many more there are.

    >>> some_of_them(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
