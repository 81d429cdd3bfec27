"""Format numbers for readers: about three digits, a true minus sign, and text for a missing number."""

from __future__ import annotations

from typing import NamedTuple, Protocol

MISSING = "not computable"


class WithInterval(Protocol):
    """A number with its 95 % interval; all three are None if it could not be computed."""

    @property
    def value(self) -> float | None: ...

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


class Point(NamedTuple):
    """A number without an interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


def number(value: float | None) -> str:
    """Format a number as `0.40`, `12.3`, `1,240`, `0.0071` or `3.1e−05`; None as `not computable`."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        text = f"{value:,.0f}"
    elif size >= 0.095:
        text = f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", "\N{MINUS SIGN}")


def interval(measured: WithInterval) -> str:
    """Format an interval as `0.18 to 0.74`; empty text if there is none."""
    if measured.low is None or measured.high is None:
        return ""
    return f"{number(measured.low)} to {number(measured.high)}"
