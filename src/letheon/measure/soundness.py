"""How sound answers are, so that a model that falls apart is not taken for one that forgot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from letheon.audit.measuring.answers import Fluency, fluency, is_damaged
from letheon.measure.benchmark import Against


@dataclass(frozen=True)
class Soundness:
    """What is said of the answers, by the ids of their questions.

    Attributes:
        fluency: mean log-probability per token under the judge, nats; None where nothing was judged.
        damaged: whether the answer is broken language.
    """

    fluency: dict[str, float | None]
    damaged: dict[str, bool]


def soundness(prompts: Mapping[str, str], answers: Mapping[str, str], against: Against) -> Soundness:
    """Judge answers; their level is what the target and the reference say to the same questions.

    Without a judge only gross damage is told: nothing, no words, a loop.
    """
    levels = [scores.answers for scores in (against.target, against.reference) if scores is not None]
    own, *others = ([found.get(name, "") for name in prompts] for found in (answers, *levels))
    values: list[list[Fluency | None]] = [[None] * len(prompts) for _ in (own, *others)]
    if against.judge is not None:
        values = [fluency(against.judge.model, list(prompts.values()), said) for said in (own, *others)]
    tolerance = {} if against.judge is None else {"tolerance": against.judge.tolerance}
    damaged = [
        is_damaged(said, value, level, **tolerance)
        for said, (value, *level) in zip(own, zip(*values, strict=True), strict=True)
    ]
    return Soundness(
        dict(zip(prompts, [value.value if value else None for value in values[0]], strict=True)),
        dict(zip(prompts, damaged, strict=True)),
    )
