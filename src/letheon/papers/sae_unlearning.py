"""Sparse-Autoencoder-Guided Internal Representation Unlearning for Large Language Models.

arXiv 2509.15631, 2025-09; Yamashita et al.

Measured here on a small Llama that has learned twenty-eight people and, of as many others, that it does not know them.
Four of the known are to be forgotten. Half of the other names make the prototypes, choose the latents, fit the probe
and are (the known ones) the retain rows; the rest, in question forms that no run has seen, is what everything is
measured on. A TopK autoencoder is trained on all of the world's texts and serves every run as a meter, the method
also as its space. Baselines are gradient ascent, NPO and RMU, read where they have made the model forget (where it
answers at most a tenth of the target's questions), and the method in the raw residual space, which knows no latents.
The claim is judged on the inside (position, probe) and on the answers: the probability of the target's facts has to
fall, and that of the answer about unknown people to rise. Every arm has its own rate, chosen on tuning seeds by what it
answers: the probability of that answer, less that of the target's facts, plus that of retained people's facts.
Reported: the layer above. Full scale in the paper: models of billions of weights with public autoencoders.

An earlier record left the answers out of the claim, had one rate, and judged ratios of single reconstruction errors and
a shift whose limit had been set after seed 0; both are reported now. The form of the loss was chosen after results of
seed 0 had been seen [inferred], so that seeds 1 and up are judged, and a latent of either kind may be the best one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from letheon.core.atomic import write_json
from letheon.core.model.models import LanguageModel
from letheon.forget.request import Request
from letheon.papers.common.known_meter import LAYER, Meter, ordinary_states
from letheon.papers.common.known_world import make_known_world, taught
from letheon.papers.common.small_llama import copy_of
from letheon.papers.kit.arms import Arm, Taught, Trajectory, follow
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.probe.entities import Separation
from letheon.probe.sae.autoencoder import Quality
from letheon.probe.sae.training import SAETraining, train_sparse_autoencoder
from letheon.report.figures import canvas, look, svg
from letheon.report.plots import lines

RATES, STEPS, BATCH, EVERY = (1e-3, 3e-3), 60, 8, 3
ARMS = {
    "sae": "sae:path={sae},entities={entities},layer=1@lora",
    "residual": "sae:space=residual,entities={entities},layer=1@lora",
    "gradient_ascent": "gradient_ascent@lora",
    "npo": "npo@lora",
    "rmu": "rmu:layer=1,coefficient=20@lora",
}
BASELINES = tuple(ARMS)[2:]  # suppress answers
FORGOTTEN = 0.1  # share of the target's questions that are still answered
# Conditions without which the verdict is "inconclusive": explained variance, best separation score on the tested names.
EXPLAINED, SEPARATED = 0.8, 0.5
HALF = 0.5  # which side: of the prototypes, of the probe
LOST = 0.1  # how much of the probability of retained people's facts may go
ANSWERED = 0.3  # probability of the target's facts, at most


@dataclass
class Trial:
    """The measurements of one seed.

    Attributes:
        quality: of the autoencoder.
        separation: how often latents fire on the tested known and unknown names.
        score: on the tested names, of the known or unknown latent that separates the chosen names best.
        auroc: of the probe, on the tested names.
        plane: plane coordinates of the known, unknown and target names' latents before.
        runs: the runs by name.
        after: plane coordinates of the target's latents after each run.
    """

    quality: Quality
    separation: Separation
    score: float
    auroc: float
    plane: dict[str, list[list[float]]]
    runs: dict[str, Trajectory]
    after: dict[str, list[list[float]]]


PRIMARY = (
    "target's position",
    "target unknown to the probe",
    "probability of the target's facts",
    "probability of the target's hedges",
    "probability of retained people's facts, minus before",
    *(f"position, minus {arm}'s" for arm in BASELINES),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: half a minute per seed, and more for each of the tuning seeds."""
    found.baselines += list(ARMS)[1:]
    rates = choose(found, dict.fromkeys(ARMS, RATES), lambda *run: behaviour(trajectory(scale, *run)[0].last))
    found.seeds = [seed + 1 for seed in scale.seeds]  # the form of the loss was chosen on seed 0
    trials = {seed: trial(seed, scale, rates) for seed in found.seeds}
    judge(found, list(trials.values()))
    found.figures |= figures(trials)
    found.rows += [
        {"seed": seed, "arm": name, "moved": run.moved, **run.last}
        for seed, one in trials.items()
        for name, run in one.runs.items()
    ]


def behaviour(point: Mapping[str, float]) -> float:
    """Hedges instead of facts about the target, and facts about retained people."""
    return point["hedge_probability"] - point["target_probability"] + point["kept_probability"]


# One seed -----------------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """The taught model, its meter with the autoencoder, and that one's quality on texts it was not trained on."""

    model: LanguageModel
    meter: Meter
    quality: Quality


@cache
def start(seed: int, scale: Scale) -> Start:
    """Teach a world and train the autoencoder."""
    people, size = (38, 3) if scale.name == "full" else (28, 1)
    world = make_known_world(seed, known=people, unknown=people)
    model = taught(world, seed, steps=250 * size)
    model.model.to(scale.device)
    states = ordinary_states(model, world)
    training = SAETraining(steps=300 * size)
    sae = train_sparse_autoencoder(states[len(states) // 5 :], training, seed, f"blocks.{LAYER}.hook_resid_post")
    return Start(model, Meter(model, sae, world), sae.quality(states[: len(states) // 5]))


def trajectory(scale: Scale, arm: str, rate: float, seed: int) -> tuple[Trajectory, list[list[float]]]:
    """One run of a seed, and the target's latents after it."""
    model, meter, _ = start(seed, scale)
    with tempfile.TemporaryDirectory(prefix="letheon-") as scratch:
        folder, entities = meter.sae.save(Path(scratch) / "sae"), Path(scratch) / "entities.json"
        write_json(entities, {"known": meter.chosen.known, "unknown": meter.chosen.unknown})
        recipe = ARMS[arm].format(sae=folder, entities=entities)
        return run(model, meter, recipe, seed, 3 * STEPS if scale.name == "full" else STEPS, arm, rate)


def trial(seed: int, scale: Scale, rates: Mapping[str, float]) -> Trial:
    """Run every arm from the same model."""
    _, meter, quality = start(seed, scale)
    both = {name: trajectory(scale, name, rate, seed) for name, rate in rates.items()}
    runs = {name: course for name, (course, _) in both.items()}
    after = {name: latents for name, (_, latents) in both.items()}
    return Trial(quality, meter.separation, meter.score, meter.probe.auroc, meter.plane(), runs, after)


def run(
    model: LanguageModel, meter: Meter, recipe: str, seed: int, steps: int, name: str, rate: float
) -> tuple[Trajectory, list[list[float]]]:
    """One run and the target's latents after it; a baseline ends where it has made the model forget."""

    def forgotten(point: dict[str, float]) -> bool:
        return name in BASELINES and point["target_accuracy"] <= FORGOTTEN

    request = Request(forget=tuple(meter.rows("target", 0)), retain=tuple(meter.rows("chosen", 0)))
    changed = copy_of(model)
    arm = Arm(recipe, rate, steps, BATCH, EVERY)
    course = follow(Taught(changed, request, meter.measure), arm, seed, until=forgotten)
    return course, meter.project(meter.latents(changed, meter.tested.target))


# The verdict --------------------------------------------------------------------------------------------------------


def ready(trials: Sequence[Trial]) -> bool:
    """Whether the autoencoder describes the states and has latents that tell the tested names apart."""
    return all(one.quality.explained_variance > EXPLAINED and one.score > SEPARATED for one in trials)


def judge(found: Findings, trials: Sequence[Trial]) -> None:
    """Measured values, intervals, and a verdict for each of the eight parts."""

    def column(arm: str, name: str) -> list[float]:
        return [one.runs[arm].last[name] for one in trials]

    runs = [one.runs["sae"] for one in trials]
    found.decide("target's position", column("sae", "position"), above=HALF)
    found.decide("target unknown to the probe", column("sae", "unknown"), above=HALF)
    found.decide("probability of the target's facts", column("sae", "target_probability"), below=ANSWERED)
    found.decide("probability of the target's hedges", column("sae", "hedge_probability"), above=HALF)
    kept = Pairs([run.points[0]["kept_probability"] for run in runs], column("sae", "kept_probability"))
    found.decide("probability of retained people's facts, minus before", kept, above=-LOST)
    for arm in BASELINES:
        found.decide(f"position, minus {arm}'s", Pairs(column(arm, "position"), column("sae", "position")), above=0.0)
    hedges = Pairs(column("residual", "hedge_probability"), column("sae", "hedge_probability"))
    found.report("probability of the target's hedges, minus residual's", hedges, above=0.0)
    positions = Pairs(column("residual", "position"), column("sae", "position"))
    found.report("position, minus residual's", positions, above=0.0)
    errors = [math.log(run.last["error"] / run.points[0]["error"]) for run in runs]
    found.report("log of the target's reconstruction error, over that before", errors, below=0.0)
    shifts = [abs(run.last["kept_position"] - run.points[0]["kept_position"]) for run in runs]
    found.measured["retained entities' shift"] = fmean(shifts)
    found.check("the autoencoder describes the states and tells names apart", ready(trials))
    found.measured |= {
        "explained variance": fmean([one.quality.explained_variance for one in trials]),
        "latents a token": fmean([one.quality.l0 for one in trials]),
        "best separation score": fmean([one.score for one in trials]),
        "probe's AUROC": fmean([one.auroc for one in trials]),
        "before": _means([run.points[0] for run in runs]),
        **{arm: _means([one.runs[arm].last for one in trials]) for arm in ARMS},
    }


def _means(points: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(fmean([point[name] for point in points]), 3) for name in points[0]}


# Figures ------------------------------------------------------------------------------------------------------------


def figures(trials: Mapping[int, Trial]) -> dict[str, str]:
    """The target's position along each run, the names in the latents' plane, and firing rates of the latents."""
    first = next(iter(trials.values()))
    ways = {name: [(p["step"], p["position"]) for p in arm.points] for name, arm in first.runs.items()}
    words = "Position of the target between the prototypes of known (0) and unknown (1) entities, over the steps"
    names = {**first.plane, "after": first.after["sae"], "gradient ascent": first.after["gradient_ascent"]}
    clouds = {("before" if name == "target" else name): points for name, points in names.items()}
    rates = [
        list(pair) for pair in zip(first.separation.known.tolist(), first.separation.unknown.tolist(), strict=True)
    ]
    return {
        "way": lines(ways, "steps", "position of the target", words),
        "plane": scatter(
            clouds,
            "first main direction",
            "second",
            "Latents of known, unknown and target names in a plane; the target before, after, under gradient ascent",
        ),
        "separation": scatter(
            {"latents": rates},
            "fires on known names",
            "fires on unknown names",
            "For each latent the share of known and of unknown names that switch it on",
        ),
    }


def scatter(clouds: Mapping[str, Sequence[Sequence[float]]], across: str, up: str, words: str) -> str:
    """Points of several kinds, each kind named at its middle."""
    with canvas(3.0) as (figure, axes):
        axes.set(xlabel=across, ylabel=up)
        axes.grid(True)
        for place, (name, points) in enumerate(clouds.items()):
            seen, (xs, ys) = look(name, place), list(zip(*points, strict=True))
            axes.scatter(xs, ys, s=10, marker=seen.mark, color=seen.colour, alpha=0.6, linewidths=0)
            axes.annotate(name, (fmean(xs), max(ys)), color=seen.colour, fontweight="bold", ha="center", va="bottom")
        return svg(figure, words)
