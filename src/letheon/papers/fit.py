"""FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning.

arXiv 2601.21682, 2026-01; v2 retitled FIT to Forget.

Measured on PCH-mini, a small Llama trained from nothing: forget degree and retain utility against a model that was
taught D_r alone, along a stream of 24 requests (fast) or 120 (full). Plain methods move all layers; FIT moves a third
of them (the paper: 8 of 32). All arms have the same epochs and rows, and each its own rate, chosen on tuning streams by
what is judged: the harmonic mean of the two scores at the end. FIT has to reach a higher one than every plain method
and than FIT without each of its parts. Without importance, every request gets the middle loss (NPO), random labels, or
the strongest (NPO and KL). Reported are retain utility, both scores after ten steps on retain rows, and the forget
degree after rounding to 4 bits. An earlier record ran every arm at the rate that favours FIT, where plain methods
collapse, and its filter dropped what was still known. Full scale in the paper: 300 requests, models of 6B and up.

Tau was fixed before by how the taught model's states tell near-duplicates from other rows; epsilon is the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from letheon.audit.measuring.greedy_answers import answer_all
from letheon.audit.measuring.quantise import Grid, quantised
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.overlap import rouge
from letheon.core.statistics import harmonic_mean
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.sequences.queue import Queue, SequenceSettings
from letheon.forget.settings import ForgetSettings
from letheon.papers.common.pch_mini import Stream, make_stream
from letheon.papers.common.small_llama import copy_of, scored
from letheon.papers.common.tofu_mini import new_model, train
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

FLOOR = 1e-8
RATES = {24: (7e-5, 1.5e-4, 3e-4), 120: (2e-5, 4e-5, 8e-5)}  # to choose from, by the number of requests
EPOCHS, TAU = 3, 0.75
RELEARNING = {24: 1.5e-4, 120: 4e-5}  # the middle of the rates to choose from
LAYERS, MOVED = 6, 2
POINTS = 4  # measurements along the stream
MOST = 24  # rows of a measurement
TIERS = {"low": "random_labels", "medium": "npo:alpha=0", "high": "npo:retain_loss=kl"}
PLAIN = {
    "gradient ascent": "gradient_ascent",
    "NPO": "npo:alpha=0",
    "NPO + KL": "npo:retain_loss=kl",
    "random labels": "random_labels",
}
PARTS = {
    "filtering": "without filtering",
    "importance": "without importance",
    "importance, for random labels": "random labels in targeted layers",
    "importance, for the strongest tier": "strongest tier alone",
    "targeting": "without targeting",
}
PRIMARY = (
    *(f"balance, FIT minus {name}" for name in PLAIN),
    *(f"balance, what {part} adds" for part in PARTS),
)


class Triple(NamedTuple):
    """Mean answer probability (geometric per token), ROUGE-L (F-measure) of greedy answers, teacher-forced accuracy."""

    probability: float
    rouge: float
    accuracy: float

    def score(self) -> float:
        """The geometric mean of the three (F or R in the paper); 0 if one of them is 0."""
        return float((self.probability * self.rouge * self.accuracy) ** (1 / 3))


def likeness(unlearned: Triple, reference: Triple) -> float:
    """max(0, 1 − |F/F_Q − 1|): 1 for a model that behaves as the reference does, 0 for F = 0 and for F ≥ 2·F_Q.

    On forget rows this is the forget degree F.D., which forgetting too much lowers as well; on retain rows the retain
    utility R.U. F_Q is at least 1e-8.
    """
    return max(0.0, 1 - abs(unlearned.score() / max(reference.score(), FLOOR) - 1))


def measure(model: LanguageModel, rows: Sequence[Example]) -> Triple:
    """The three numbers of a model, as means over rows."""
    found = scored(model, rows)
    limit = max(len(one.logp) for one in found)
    candidates = [[(row.answer, one)] for row, one in zip(rows, found, strict=True)]
    said = answer_all(model, rows, limit, candidates=candidates)
    overlaps = [rouge(text, row.answer).rougeL_f1 for text, row in zip(said, rows, strict=True)]
    return Triple(
        float(np.mean([one.probability for one in found])),
        float(np.mean(overlaps)),
        float(np.mean([one.correct.mean() for one in found])),
    )


# The arms


def arms() -> dict[str, SequenceSettings]:
    """Plain methods, FIT, and FIT without each of its parts."""

    def settings(recipes: Mapping[str, str], tau: float) -> SequenceSettings:
        return SequenceSettings(recipes["low"], recipes["medium"], recipes["high"], tau=tau, reaudit=1)

    everything = 2.0  # no cosine is above it: nothing is filtered
    targeted = {tier: f"{recipe}@targeted:k={MOVED}" for tier, recipe in TIERS.items()}
    plain = {name: settings(dict.fromkeys(TIERS, recipe), everything) for name, recipe in PLAIN.items()}
    return {
        **plain,
        "FIT": settings(targeted, TAU),
        "without filtering": settings(targeted, everything),
        "without importance": settings(dict.fromkeys(TIERS, targeted["medium"]), TAU),
        "random labels in targeted layers": settings(dict.fromkeys(TIERS, targeted["low"]), TAU),
        "strongest tier alone": settings(dict.fromkeys(TIERS, targeted["high"]), TAU),
        "without targeting": settings(TIERS, TAU),
    }


@dataclass
class Arm:
    """The course of one arm along the stream.

    Attributes:
        points: requests served, forget degree, retain utility, drift and raw triples at each measurement.
        recovered: forget degree at the end, after a 4-bit round trip, and after learning retain rows again.
        dropped: chunks that the filter took out; `duplicates` of them belong to requests that repeat an earlier one.
        tiers: how many requests each tier served.
    """

    points: list[dict[str, Any]] = field(default_factory=list)
    recovered: dict[str, Any] = field(default_factory=dict)
    dropped: int = 0
    duplicates: int = 0
    tiers: dict[str, int] = field(default_factory=dict)

    @property
    def end(self) -> dict[str, Any]:
        """The last measurement."""
        return self.points[-1]

    def balance(self) -> float:
        """Harmonic mean of forget degree and retain utility at the end."""
        return harmonic_mean([self.end["forget_degree"], self.end["retain_utility"]])


def serve(start: Start, settings: SequenceSettings, rate: float, seed: int, *, recover: bool = True) -> Arm:
    """One arm over the whole stream, from a copy of the taught model.

    Args:
        recover: also measure what rounding and relearning bring back.
    """
    stream, model, reference = start.stream, copy_of(start.target), start.reference
    training = TrainSettings(rate, precision="float32", seed=seed)
    queue = Queue(model, settings, ForgetSettings(epochs=EPOCHS, collapse=False), training)
    queue.calibrate(stream.requests[: settings.calibration])
    arm, each = Arm(), len(stream.requests) // POINTS
    for number, request in enumerate(stream.requests, start=1):
        report = queue.serve(request)
        arm.dropped += len(report.dropped)
        arm.duplicates += len(report.dropped) if request.id in stream.duplicates else 0
        arm.tiers[report.tier or "redundant"] = arm.tiers.get(report.tier or "redundant", 0) + 1
        if number % each == 0:
            arm.points.append({"requests": number, "drift": report.drift, **scores(model, reference, stream, number)})
    if recover:
        arm.recovered = recovery(model, reference, stream, seed)
    return arm


def asked(stream: Stream, number: int) -> list[Example]:
    """At most `MOST` forget rows of the first requests, taken evenly."""
    rows = [row for request in stream.requests[:number] for row in request.forget]
    return rows[:: -(-len(rows) // MOST)]


def scores(model: LanguageModel, reference: LanguageModel, stream: Stream, number: int) -> dict[str, Any]:
    """Forget degree over the requests so far, retain utility, and the triples behind them."""
    forgotten, kept = measure(model, asked(stream, number)), measure(model, stream.kept[:MOST])
    never, taught = measure(reference, asked(stream, number)), measure(reference, stream.kept[:MOST])
    return {
        "forget_degree": likeness(forgotten, never),
        "retain_utility": likeness(kept, taught),
        "forget": forgotten,
        "retain": kept,
        "reference_forget": never,
        "reference_retain": taught,
    }


def recovery(model: LanguageModel, reference: LanguageModel, stream: Stream, seed: int) -> dict[str, Any]:
    """Forget degree now, with weights rounded to 4 bits, and after ten steps on retain rows."""
    rows = asked(stream, len(stream.requests))
    never = measure(reference, rows)
    found: dict[str, Any] = {"at the end": likeness(measure(model, rows), never)}
    with quantised(model, Grid(4)) as rounded:
        found["4 bits"] = likeness(measure(rounded, rows), never)
    settings = TrainSettings(RELEARNING[len(stream.requests)], batch_size=16, precision="float32", seed=seed)
    finetune(model, stream.kept, settings, 10, title="relearning")
    again, kept = measure(model, rows), measure(model, stream.kept[:MOST])
    found["relearned"] = likeness(again, never)
    found["retain utility, relearned"] = likeness(kept, measure(reference, stream.kept[:MOST]))
    found["triples, relearned"] = (tuple(again), tuple(kept))  # whether a low degree is a memory or damage
    return found


# The claim

Arms = Mapping[int, Mapping[str, Arm]]


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: ten streams per seed, a little over a minute of one core; the search takes some six minutes."""
    found.baselines += list(PLAIN)
    settings = arms()

    def score(name: str, rate: float, seed: int) -> float:
        return serve(start(seed, scale), settings[name], rate, seed, recover=False).balance()

    rates = choose(found, dict.fromkeys(settings, RATES[requests_at(scale)]), score)
    served = {
        seed: {name: serve(start(seed, scale), settings[name], rate, seed) for name, rate in rates.items()}
        for seed in scale.seeds
    }
    judge(found, served)
    found.figures |= figures(served)
    found.rows += [_row(seed, name, arm) for seed, arms in served.items() for name, arm in arms.items()]


class Start(NamedTuple):
    """A stream, the model that was taught all of it, and the reference, which was taught the retain rows."""

    stream: Stream
    target: LanguageModel
    reference: LanguageModel


def requests_at(scale: Scale) -> int:
    """The number of requests of a stream."""
    return 120 if scale.name == "full" else 24


@cache
def start(seed: int, scale: Scale) -> Start:
    """Draw a stream and teach target and reference by one recipe."""
    full = scale.name == "full"
    stream = make_stream(seed, requests_at(scale), retained=24 if full else 12, sentences=2 if full else 1)
    models = []
    for forgotten in (True, False):
        model = new_model(stream.world, seed, layers=LAYERS, width=128 if full else 64)
        model.model.to(scale.device)
        train(model, stream.world.known(forgotten=forgotten), seed, epochs=70, learning_rate=2e-3 if full else 4e-3)
        models.append(model)
    return Start(stream, models[0], models[1])


def judge(found: Findings, arms: Arms) -> None:
    """Measured values, intervals, and a verdict for each of the nine parts."""
    fits = [these["FIT"] for these in arms.values()]

    def gain(name: str) -> Pairs:
        return Pairs([these[name].balance() for these in arms.values()], [fit.balance() for fit in fits])

    for name in PLAIN:
        found.decide(f"balance, FIT minus {name}", gain(name), above=0.0)
    for part, name in PARTS.items():
        found.decide(f"balance, what {part} adds", gain(name), above=0.0)
    for column in ("forget_degree", "retain_utility", "drift"):
        found.measured[f"{column} at the end"] = _means(arms, lambda arm, column=column: float(arm.end[column]))
    found.measured["balance at the end"] = _means(arms, lambda arm: arm.balance())
    for after in ("4 bits", "relearned"):
        found.measured[f"forget degree, {after}"] = _means(arms, lambda arm, after=after: arm.recovered[after])
    found.measured["retain utility, relearned"] = _means(arms, lambda arm: arm.recovered["retain utility, relearned"])
    found.measured["chunks dropped by FIT"] = sum(fit.dropped for fit in fits)
    found.measured["near-duplicates among them"] = sum(fit.duplicates for fit in fits)
    found.measured["requests"] = fits[0].end["requests"]


def _means(found: Arms, value: Any) -> dict[str, float]:
    names = next(iter(found.values()))
    return {name: sum(value(these[name]) for these in found.values()) / len(found) for name in names}


def _row(seed: int, name: str, arm: Arm) -> dict[str, Any]:
    end = {key: tuple(value) if isinstance(value, Triple) else value for key, value in arm.end.items()}
    filtered = {"dropped": arm.dropped, "duplicates": arm.duplicates, "tiers": arm.tiers}
    return {"seed": seed, "arm": name, "balance": arm.balance(), **end, **filtered, "recovery": arm.recovered}


def figures(found: Arms) -> dict[str, str]:
    """Forget degree, retain utility and drift over the requests served, mean of the seeds."""
    drawn = {}
    for column, words in (
        ("forget_degree", "forget degree"),
        ("retain_utility", "retain utility"),
        ("drift", "distance of the weights from the start"),
    ):
        series = {name: _curve([these[name] for these in found.values()], column) for name in arms()}
        title = f"{words[0].upper()}{words[1:]} over requests served, mean of the seeds"
        drawn[column.replace("_", "-")] = lines(series, "requests served", words, title)
    return drawn


def _curve(of_seeds: Sequence[Arm], column: str) -> list[tuple[float, float]]:
    points = zip(*(arm.points for arm in of_seeds), strict=True)
    return [(at[0]["requests"], sum(point[column] for point in at) / len(at)) for at in points]
