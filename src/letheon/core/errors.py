"""One family of errors: each says what was asked, what was found, and what to do.

Exit codes of the command line are properties of the error, so that Python and shell users meet the same distinction.
"""

from __future__ import annotations


class LetheonError(Exception):
    """Something that the caller can understand and mend.

    Args:
        problem: one line that says what was asked and what was found.
        remedy: what to do about it; shown on a line of its own.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


class InputError(LetheonError):
    """Input that is refused before any model is loaded; nothing has been written."""

    exit_code = 2


class TrainingError(LetheonError):
    """A run that cannot go on (NaN loss, collapse, no weight moved); the last good state is kept."""

    exit_code = 4


class Interrupted(LetheonError):
    """A run that was asked to stop and saved its state: start it again with `--resume`."""

    exit_code = 75


def nearest(name: str, known: list[str]) -> str:
    """A hint such as `did you mean 'npo'?`, or the list of known names when nothing is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(sorted(set(known)))
