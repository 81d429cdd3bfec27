"""Scores that several benchmarks share: means over rows, membership, PrivLeak, broken answers and their fluency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from letheon.audit.measuring.answer_kinds import Fluency, fluency, is_damaged
from letheon.audit.measuring.membership import Membership, privleak
from letheon.core.statistics import Estimate, estimate_mean
from letheon.measure.benchmark import Against, Better, Score, Scores

MIN_K_AUROC = "min-k AUROC"


def mean_score(
    name: str, values: Mapping[str, float], better: Better, *, seed: int = 0, share: bool = False, why: str = ""
) -> Score:
    """Return the mean over rows as a score, with its 95 % interval.

    Args:
        values: one value per row, by its id.
        share: the values are 0 or 1; the interval is that of a share.
        why: the reason to give where there are no rows.
    """
    estimate = estimate_mean(list(values.values()), share=share, seed=seed)
    return Score(name, estimate, better, dict(values), why="" if values else why)


def membership_score(name: str, test: Membership, ids: Sequence[str]) -> Score:
    """Return the AUROC of a membership test as a score.

    Args:
        ids: ids of the members, then of the non-members.
    """
    return Score(name, test.auroc, "lower", dict(zip(ids, (*test.members, *test.non_members), strict=True)))


def privleak_score(scores: Scores, reference: Scores | None) -> Score:
    """Return PrivLeak from the Min-K% AUROCs of a model and of the reference.

    Without a reference its AUROC is taken to be 0.5, as in the field. The interval is that of the model's AUROC.
    """
    own = scores[MIN_K_AUROC]
    theirs = reference.value(MIN_K_AUROC) if reference is not None else 0.5
    if own.estimate.value is None or theirs is None:
        return Score("PrivLeak", Estimate(None, None, None, 0), "zero", why=own.why)
    ends = (own.estimate.high, own.estimate.value, own.estimate.low)  # the higher the AUROC, the lower PrivLeak
    low, value, high = (None if auroc is None else privleak(auroc, theirs) for auroc in ends)
    return Score("PrivLeak", Estimate(value, low, high, own.estimate.n), "zero")


@dataclass(frozen=True)
class Soundness:
    """How sound the answers are as language, by the ids of their questions.

    Attributes:
        fluency: mean log-probability per token under the judge, nats; None where nothing was judged, and of an answer
            that repeats itself, which is certain in the end.
        damaged: 1 where the answer is broken language, else 0.
    """

    fluency: dict[str, float | None]
    damaged: dict[str, float]


def soundness(prompts: Mapping[str, str], answers: Mapping[str, str], against: Against) -> Soundness:
    """Judge answers, so that a model that falls apart is not taken for one that forgot.

    An answer's level is the fluency of the target's and the reference's answers to the same question. Without a judge
    only gross damage is detected: an empty answer, no words, a loop.
    """
    levels = [scores.answers for scores in (against.target, against.reference) if scores is not None]
    own, *others = ([given.get(name, "") for name in prompts] for given in (answers, *levels))
    values: list[list[Fluency | None]] = [[None] * len(prompts) for _ in (own, *others)]
    if against.judge is not None:
        values = [fluency(against.judge.model, list(prompts.values()), texts) for texts in (own, *others)]
    tolerance = {} if against.judge is None else {"tolerance": against.judge.tolerance}
    damaged = [
        float(is_damaged(text, value, level, **tolerance))
        for text, (value, *level) in zip(own, zip(*values, strict=True), strict=True)
    ]
    return Soundness(
        dict(
            zip(prompts, [None if value is None or value.repeats else value.value for value in values[0]], strict=True)
        ),
        dict(zip(prompts, damaged, strict=True)),
    )


def gibberish_score(sound: Soundness) -> Score:
    """Return the share of broken answers as a score."""
    return mean_score("gibberish", sound.damaged, "lower", share=True)
