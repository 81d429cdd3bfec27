"""The input and the output of a reproduction: a `Scale`, and an `Outcome` with a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from letheon.core.errors import LetheonError

Verdict = Literal["holds", "fails", "inconclusive"]
Side = Literal["above", "below"]


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is.

    Attributes:
        name: "fast" is minutes on two cores, "full" is the size that the paper's page states.
        seeds: one independent repetition each; intervals are over them.
        device: a torch device name.
    """

    name: Literal["fast", "full"] = "fast"
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """A claim and its measurements.

    Attributes:
        key: the paper's key.
        claim: the inequality that was tested, in words.
        baselines: names of what the method was compared with.
        measured: name -> value; a value that could not be computed is None.
        interval: 95 % interval of the quantity that decides, or one per quantity.
        verdict: whether the claim holds at this scale.
        seeds: the seeds that were run.
        seconds: wall-clock time.
        figures: name -> SVG text.
        rows: one dictionary per seed and arm, the values behind the means.
    """

    key: str
    claim: str
    baselines: list[str]
    measured: dict[str, Any]
    interval: list[float] | dict[str, Any]
    verdict: Verdict
    seeds: list[int]
    seconds: float
    figures: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise LetheonError(
                f"paper {self.key!r}: {self.verdict!r} is no verdict",
                f"one of: {', '.join(get_args(Verdict))}",
            )

    def to_json(self) -> dict[str, Any]:
        """The short form that is printed and recorded: without figures and rows, NaN and infinity as None."""
        return {
            "key": self.key,
            "claim": self.claim,
            "baselines": list(self.baselines),
            "measured": json_ready(self.measured),
            "interval": json_ready(self.interval),
            "verdict": self.verdict,
            "seeds": list(self.seeds),
            "seconds": round(float(self.seconds), 3),
        }


def json_ready(value: Any) -> Any:
    """Plain numbers, lists and dictionaries, from numpy and torch as well; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if hasattr(value, "tolist"):
        return json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def readable(value: Any) -> str:
    """A measured value as text: four significant digits, ranges in brackets, `not computed` for None."""
    if value is None:
        return "not computed"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(readable, value)) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{name} {readable(item)}" for name, item in value.items())
    return str(value)


def verdict_from_interval(low: float, high: float, threshold: float, direction: Side) -> Verdict:
    """Judge the claim that a quantity lies above (below) a threshold by its interval [low, high].

    "holds" when the whole interval is strictly on the claimed side, "fails" when it is strictly on the other;
    an interval that contains or touches the threshold, or is not finite, decides nothing.

    Raises:
        LetheonError: `low` exceeds `high`.
    """
    if low > high:
        raise LetheonError(f"interval [{low}, {high}] is upside down", "give the lower end first")
    if not all(map(math.isfinite, (low, high, threshold))):
        return "inconclusive"
    if low > threshold:
        return "holds" if direction == "above" else "fails"
    if high < threshold:
        return "holds" if direction == "below" else "fails"
    return "inconclusive"


def together(verdicts: Mapping[str, Verdict]) -> Verdict:
    """A claim of parts holds only if all of them do, and fails if one of them does."""
    if "fails" in verdicts.values():
        return "fails"
    return "inconclusive" if "inconclusive" in verdicts.values() else "holds"
