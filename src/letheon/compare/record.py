"""The record of a comparison: one run per learning rate, one audit per method, the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from letheon.audit.record.evidence import Role, Subset
from letheon.audit.record.record import Audit
from letheon.compare.halving import pareto

# The two axes of the plane: what is left of the forgotten (lower is better), what is kept (higher is better).
FORGOTTEN, KEPT = "forget extraction strength", "retain utility"
# Columns of the table, and where the audit has them.
METRICS: dict[str, tuple[str, Subset]] = {
    "forget recall": ("recall", "forget"),
    FORGOTTEN: ("extraction_strength", "forget"),
    "forget value probability": ("value_probability", "forget"),
    "retain recall": ("recall", "retain"),
    KEPT: ("model_utility", "retain"),
    "neighbours recall": ("recall", "neighbours"),
    "fluency": ("fluency", "forget"),
    "damaged answers": ("damage", "forget"),
    "perplexity": ("perplexity", "general"),
}
ATTACKS = {"after first token": "first_token_prefix", "paraphrased": "paraphrase"}
RELEARNED, ROUNDED = "relearned", "4-bit recall"


@dataclass(frozen=True)
class Attempt:
    """One run of a method at one learning rate (None for a method that has none)."""

    learning_rate: float | None
    scores: dict[int, float]  # at each rung (steps taken) the score by which rates are chosen, in [0, 1]
    steps: int
    stopped: str  # why it ended
    finished: bool
    seconds: float
    folder: str  # of the run, below the comparison's

    @property
    def score(self) -> float:
        """The last score."""
        return self.scores[max(self.scores)] if self.scores else 0.0


@dataclass(frozen=True)
class Entry:
    """A method: its runs, and what the audit says of the best.

    Attributes:
        numbers: by the names of the table's columns; None where the audit has none.
        outcome: the verdict; `failed` with its reason in `error` where no run came to an end.
        best: on the Pareto front of forgetting and utility.
    """

    method: str
    attempts: list[Attempt]
    chosen: Attempt | None = None
    numbers: dict[str, float | None] = field(default_factory=dict)
    outcome: str = "failed"
    error: str = ""
    best: bool = False
    relearning: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Several methods on one request.

    Attributes:
        before, reference: the same numbers of the model before, and of the retrained reference where there is one.
    """

    model: str
    request: str
    entries: list[Entry]
    before: dict[str, float | None]
    reference: dict[str, float | None] | None
    budget: float
    seconds: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is written to compare.json."""
        return asdict(self)


def numbers_of(record: Audit, role: Role) -> dict[str, float | None]:
    """The table's columns of one model of an audit."""
    numbers: dict[str, float | None] = {}
    for column, (name, subset) in METRICS.items():
        metric = record.metric(name, subset, role)
        numbers[column] = metric.value.value if metric else None
    attacks = {attack.name: getattr(attack, role) for attack in record.attacks}
    for column, name in ATTACKS.items():
        numbers[column] = attacks[name].value if attacks.get(name) is not None else None
    curve = relearning_of(record, role)
    numbers[RELEARNED] = max((recall for _, recall in curve), default=None)
    rounded = [q for q in record.quantised if q.model == role and q.bits == 4]
    numbers[ROUNDED] = rounded[0].forget_recall.value if rounded else None
    return numbers


def relearning_of(record: Audit, role: Role) -> list[tuple[float, float]]:
    """(steps, recall of the held-out facts) of a model's relearning curve on forgotten rows."""
    curves = [curve for curve in record.curves if curve.model == role and curve.trained_on == "forgotten"]
    return [(point.step, point.recall) for curve in curves for point in curve.points]


def with_front(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with the Pareto front marked."""
    points: dict[str, tuple[float, float]] = {}
    for entry in entries:
        left, kept = entry.numbers.get(FORGOTTEN), entry.numbers.get(KEPT)
        if left is not None and kept is not None:
            points[entry.method] = (left, kept)
    front = pareto(points)
    return [replace(entry, best=entry.method in front) for entry in entries]
