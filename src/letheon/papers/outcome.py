"""The input and the output of a reproduction: a `Scale`, and an `Outcome` with a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from letheon.core.errors import InputError, LetheonError

Verdict = Literal["holds", "fails", "inconclusive"]
# Name of the rule that judges claims, stored with each record: Student's t over seeds, Holm's procedure over primary
# parts (docs/decisions/0005-verdicts.md). A change of the rule gets another name.
RULE = "t-holm-2"
# The rule before it, by which equal values of six seeds and more decided; other parts were judged alike.
TIES_DECIDED = "t-holm-1"
# The rule of records that name none.
OLD_RULE = "three seeds, percentile bootstrap"
MODEL = "smollm2"  # the pretrained model on which claims are recorded


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is.

    Attributes:
        name: "fast" is minutes on two cores, "full" is the size that the paper's page states.
        seeds: one independent repetition each; intervals are over them.
        device: a torch device name.
        model: what `letheon.load` takes; read where the claim is about a pretrained model (`Paper.pretrained`).
    """

    name: Literal["fast", "full"] = "fast"
    seeds: tuple[int, ...] = (0, 1, 2)
    device: str = "cpu"
    model: str = MODEL


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
        primary: part of the claim -> its verdict, mean, threshold (above or below), and two-sided p-value against it.
        beside: the same for quantities that decide nothing.
        checks: condition of the experiment -> whether it was met.
        rule: name of the rule that gave the verdict.
        figures: name -> SVG text.
        rows: one dictionary per seed and arm, the values behind the means.
        model: the model that was measured in the place of the recorded one; empty for that one.
    """

    key: str
    claim: str
    baselines: list[str]
    measured: dict[str, Any]
    interval: list[float] | dict[str, Any]
    verdict: Verdict
    seeds: list[int]
    seconds: float
    primary: dict[str, dict[str, Any]] = field(default_factory=dict)
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    rule: str = RULE
    figures: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    model: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise LetheonError(
                f"paper {self.key!r}: {self.verdict!r} is no verdict",
                f"one of: {', '.join(get_args(Verdict))}",
            )

    def to_json(self) -> dict[str, Any]:
        """The short form that is printed and recorded: without figures and rows, NaN and infinity as None.

        `model` is left out where it is the recorded one.
        """
        return {
            "key": self.key,
            "claim": self.claim,
            "baselines": list(self.baselines),
            "measured": json_ready(self.measured),
            "interval": json_ready(self.interval),
            "verdict": self.verdict,
            "seeds": list(self.seeds),
            "seconds": round(float(self.seconds), 3),
            "primary": json_ready(self.primary),
            "beside": json_ready(self.beside),
            "checks": json_ready(self.checks),
            "rule": self.rule,
            **({"model": self.model} if self.model else {}),
        }


def check_recordable(model: str) -> None:
    """Refuse to record what was measured on a model of the user's.

    Raises:
        InputError: the model is another than that of the records.
    """
    if model != MODEL:
        raise InputError(f"a verdict on {model!r} is not the paper's recorded one", "leave out --record or --model")


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
