"""KUDA: Knowledge Unlearning by Deviating Representation for Large Language Models.

arXiv 2602.19275, 2026-02.

Measured here on invented authors whom a small Llama has been trained to know. Three are to be forgotten; five of the
nine others are the retain rows, the remaining four are known but not shown while forgetting: what is kept is measured
on those. Every run starts from the same model. Compared at equal forgetting (the deepest level of forget probability
that all compared runs reach): the recipe `kuda`, the same without projection, gradient ascent, NPO, and RMU on the same
weights. After equal steps: a strict threshold. Reported, no part of the verdict: other windows of layers than the
traced one; and, added when a first outcome had shown no difference beside the retain loss, the projection without one.
Full scale in the paper: WMDP and MUSE on models of 7B and 8B.

The noise of the tracing is one standard deviation, not ROME's three: in a model this small nothing is left after three
that one MLP could restore (effects of -0.02 to 0.00 in all layers of seeds 0 and 1); after one the lowest layers can.
Learning rates, numbers of steps and β were chosen on seeds 0, 1, 7 and 8 so that runs forget (as in the paper the
threshold comes first, then β sets the strength); limits and rules before any outcome, but for one: in that time the
forget cosine became the mean over the last epoch instead of a single batch, which was too noisy to judge by. When the
retain loss became relative (see the objective) the strict threshold went from 1e-4, which then stopped forgetting and
now leaves .71 of it, to 0, the null space itself.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from matplotlib import colormaps

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainSettings
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.scopes.traced import Settings, Traced
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.figures import lines
from letheon.papers.common.tofu_mini import World, copy_of, make_world, new_model
from letheon.papers.common.trajectory import first_crossing, memory_of
from letheon.papers.outcome import Claim, Findings, judge_pairs, judge_values, mean
from letheon.report.figures import canvas, svg


class Plan(NamedTuple):
    """A run: its recipe, learning rate, steps, and steps between two measurements."""

    recipe: str
    rate: float
    steps: int
    every: int = 10


BATCH = 6
RATE = 3e-3  # of three down projections alone; the paper's (5e-5, inferred) is for models of 7B
TRACED: dict[str, Any] = {"noise": 1.0, "rows": 18, "draws": 5}
EQUAL = 80  # steps after which thresholds and windows are compared
BASELINES = {
    "gradient_ascent": Plan("gradient_ascent", 1e-4, 40, every=2),  # moves all weights: it forgets at once
    "npo": Plan("npo", 1e-4, 40, every=2),
    "rmu": Plan("rmu:layer={last}@layers={window}:parameters=down_proj", RATE, 120),
}
COMPARED = ("none", *BASELINES)
CURVES = ("kuda", *COMPARED)
WINDOWS = ("last window", "random window")
ALONE = ("no retain loss, projected", "no retain loss, not projected")
STRICT = 0.0  # the null space itself; the recipe's relaxed one is of the directions with 0.05 of the energy
# "Near or below 0", and what the catalogue's claim says of the retain rows.
FORGET_BELOW, RETAIN_ABOVE = 0.1, 0.95
# "Stops forgetting": the forget probability falls by less than half of what it falls by under the recipe.
HALF = 0.5
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
CLAIM = (
    "after the recipe kuda the mean cosine of hidden states to the original is below 0.1 on forget rows and above "
    "0.95 on retain rows; at equal forget probability it keeps a higher probability of known answers that were not "
    "shown than without projection, and than gradient ascent, NPO and RMU; projected forget gradients are nearer to a "
    "right angle with the retain gradient; within the null space itself the forget probability falls by less than half "
    "as much after equal steps"
)


@dataclass
class Arm:
    """One run.

    Attributes:
        points: steps taken, and mean answer probabilities of forget, retain and other known rows.
        history: the metrics of every step.
        epoch: how many steps see every forget row once.
    """

    points: list[dict[str, float]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    epoch: int = 1

    def column(self, name: str) -> list[float]:
        """One measurement along the run."""
        return [point[name] for point in self.points]

    def at(self, step: int, name: str) -> float:
        """A measurement after a step."""
        return next(point[name] for point in self.points if point["step"] == step)

    def at_end(self, name: str) -> float:
        """A metric's mean over the last epoch."""
        return sum(metrics[name] for metrics in self.history[-self.epoch :]) / self.epoch

    def size(self, name: str) -> float:
        """A metric's mean size over all steps but the first, where the retain loss has no gradient."""
        return sum(abs(metrics[name]) for metrics in self.history[1:]) / (len(self.history) - 1)


@dataclass(frozen=True)
class Trial:
    """A seed: the effect of every layer's MLP, the traced window, and the runs by name."""

    effect: list[float]
    window: tuple[int, int]
    arms: dict[str, Arm]


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: about 35 s of one core a seed."""
    baselines = ["KUDA without projection", "KUDA with a strict threshold", "gradient ascent", "NPO", "RMU"]
    claim = Claim("kuda", CLAIM, baselines)
    trials = {seed: trial(seed, scale) for seed in scale.seeds}
    rows = [_row(seed, name, arm) for seed, found in trials.items() for name, arm in found.arms.items()]
    return claim.outcome(judged(list(trials.values())), scale.seeds, figures(trials), rows)


# The runs


def trial(seed: int, scale: Scale) -> Trial:
    """All runs of one seed."""

    full = scale.name == "full"
    world = make_world(seed, authors=40 if full else 12, forgotten=4 if full else 3, held_out=1)
    model = knowing_model(world, seed, scale)
    shown, others = split(world)
    request, scope = Request(forget=world.forget, retain=shown), Traced(Settings(**TRACED))
    scope.select(model, request)
    window = (scope.window[0], scope.window[-1])
    plans = plans_of(window, len(scope.table), seed)
    arms = {name: run(model, request, others, seed, plan) for name, plan in plans.items()}
    return Trial([line["effect"] for line in scope.table], window, arms)


def plans_of(window: tuple[int, int], layers: int, seed: int) -> dict[str, Plan]:
    """Every run of a seed; the random window is neither the traced nor the last one where there is a third."""
    width = window[1] - window[0] + 1
    places = [(first, first + width - 1) for first in range(layers - width + 1)]
    last = places[-1]
    drawn = random.Random(seed).choice([place for place in places if place not in (window, last)] or [last])

    def at(place: tuple[int, int]) -> str:
        return f"kuda@layers={place[0]}-{place[1]}:parameters=down_proj"

    traced = "@traced:" + ",".join(f"{name}={value}" for name, value in TRACED.items())
    filled = {"last": window[1], "window": f"{window[0]}-{window[1]}"}
    return {
        "kuda": Plan("kuda" + traced, RATE, 480),
        "none": Plan("kuda+joint" + traced, RATE, 120),
        "strict": Plan(f"kuda+null_space:threshold={STRICT}{traced}", RATE, EQUAL),
        "last window": Plan(at(last), RATE, EQUAL),
        "random window": Plan(at(drawn), RATE, EQUAL),
        ALONE[0]: Plan(f"kuda:alpha=0+null_space{traced}", RATE, 40, every=2),
        ALONE[1]: Plan(f"kuda:alpha=0+joint{traced}", RATE, 40, every=2),
        **{name: plan._replace(recipe=plan.recipe.format(**filled)) for name, plan in BASELINES.items()},
    }


def knowing_model(world: World, seed: int, scale: Scale) -> LanguageModel:
    """Trained from nothing until it knows every author."""

    layers, width, batch, steps = (8, 128, 32, 900) if scale.name == "full" else (6, 64, 12, 350)
    model = new_model(world, seed, layers=layers, width=width)
    model.model.to(scale.device)
    settings = TrainSettings(3e-3, batch_size=batch, schedule="linear", warmup_steps=20, precision="float32", seed=seed)
    finetune(model, [*world.forget, *world.retain], settings, steps, title="authors")
    return model


def split(world: World) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Rows of every second kept author, and those of the others."""
    order = list(dict.fromkeys(row.subject for row in world.retain))
    shown = set(order[::2])
    first = tuple(row for row in world.retain if row.subject in shown)
    return first, tuple(row for row in world.retain if row.subject not in shown)


def run(model: LanguageModel, request: Request, others: Sequence[Example], seed: int, plan: Plan) -> Arm:
    """One recipe on a copy of the model, measured before the first step and every few steps."""

    measure = memory_of({"forget": request.forget, "retain": request.retain, "other": others})
    arm = Arm(epoch=-(-len(request.forget) // BATCH))

    def watch(now: LanguageModel, step: int) -> None:
        if step % plan.every == 0:
            arm.points.append({"step": step, **measure(now)})

    watch(model, 0)
    training = TrainSettings(plan.rate, batch_size=BATCH, precision="float32", seed=seed)
    options: dict[str, Any] = {"steps": plan.steps, "collapse": False, "training": training, "on_step": watch}
    arm.history = forget(copy_of(model), request, plan.recipe, **options).outcome.history
    return arm


# The verdict


def judged(trials: Sequence[Trial]) -> Findings:
    """What was measured, its intervals over seeds, and a verdict for every part of the claim."""
    level, kuda = common_level(trials), [trial.arms["kuda"] for trial in trials]
    left = [fall(trial.arms["strict"]) / fall(trial.arms["kuda"]) for trial in trials]
    turned = [arm.size("alignment") - arm.size("alignment_unprojected") for arm in kuda]
    found = Findings()
    found.decide(
        {
            "forget cosine": judge_values([arm.at_end("forget_cosine") for arm in kuda], FORGET_BELOW, "below"),
            "retain cosine": judge_values([arm.at_end("retain_cosine") for arm in kuda], RETAIN_ABOVE, "above"),
            "share of the forgetting left by a strict threshold": judge_values(left, HALF, "below"),
            "|gradient cosine|, projected minus unprojected": judge_values(turned, 0.0, "below"),
        }
    )
    kept = {name: [kept_at(one.arms[name], level) for one in trials] for name in (*CURVES, *ALONE)}
    for name in COMPARED:
        found.decide({f"kept, kuda minus {name}": judge_pairs(kept[name], kept["kuda"], 0.0, "above")})
    found.measured |= {
        "compared at forget probability": level,
        "kept there": {name: mean(values) for name, values in kept.items()},
        "share of directions kept": mean([arm.at_end("kept") for arm in kuda]),
        "windows": [list(trial.window) for trial in trials],
    }
    alone = judge_pairs(kept[ALONE[1]], kept[ALONE[0]], 0.0, "above")
    found.intervals["reported: kept without a retain loss, projected minus not"] = alone.interval
    for words, key in (("forget probability", "forget_probability"), ("kept", "other_probability")):
        values = {n: [one.arms[n].at(EQUAL, key) for one in trials] for n in ("kuda", "strict", *WINDOWS)}
        found.measured[f"{words} after {EQUAL} steps"] = {name: mean(each) for name, each in values.items()}
        for name in WINDOWS:
            part = judge_pairs(values["kuda"], values[name], 0.0, "above")
            found.intervals[f"reported: {words} after {EQUAL} steps, {name} minus traced"] = part.interval
    return found


def fall(arm: Arm) -> float:
    """By how much the forget probability has fallen after `EQUAL` steps."""
    return arm.points[0]["forget_probability"] - arm.at(EQUAL, "forget_probability")


def common_level(trials: Sequence[Trial]) -> float | None:
    """The lowest of `LEVELS` to which every compared run brings the forget probability."""
    lowest = max(min(trial.arms[name].column("forget_probability")) for trial in trials for name in CURVES)
    return next((level for level in LEVELS if lowest <= level), None)


def kept_at(arm: Arm, level: float | None) -> float | None:
    """Probability of the known answers that were not shown, where the forget probability first falls to a level."""

    if level is None:
        return None
    return first_crossing(arm.column("forget_probability"), arm.column("other_probability"), level)


def _row(seed: int, name: str, arm: Arm) -> dict[str, Any]:
    states = {key: arm.history[-1].get(key) for key in ("forget_cosine", "retain_cosine", "passed", "kept")}
    return {"seed": seed, "run": name, **arm.points[-1], **states}


# The figures


def figures(trials: Mapping[int, Trial]) -> dict[str, str]:
    """The tracing, cosines of states and gradients over the steps, and what is kept over what is forgotten."""

    found = list(trials.values())

    def course(key: str) -> list[tuple[float, float]]:
        """Means over the seeds and ten steps."""
        columns = [[metrics[key] for metrics in trial.arms["kuda"].history] for trial in found]
        steps = [sum(values) / len(values) for values in zip(*columns, strict=True)]
        return [(i + 10, sum(steps[i : i + 10]) / len(steps[i : i + 10])) for i in range(0, len(steps), 10)]

    states = {"forget": course("forget_cosine"), "retain": course("retain_cosine")}
    angles = {"projected": course("alignment"), "unprojected": course("alignment_unprojected")}
    kept = {name: _curve([trial.arms[name] for trial in found]) for name in CURVES}
    words = "Cosine of forget and retain gradient over the steps"
    across, up = "forget probability", "probability of known answers not shown"
    return {
        "tracing": heat_map({seed: trial.effect for seed, trial in trials.items()}),
        "cosines": lines(states, "step", "cosine to the original", "Cosine of hidden states to the original ones"),
        "gradients": lines(angles, "step", "cosine with the retain gradient", words),
        "kept": lines(kept, across, up, "What is kept over what is forgotten, mean of the seeds", falling=True),
    }


def _curve(arms: Sequence[Arm]) -> list[tuple[float, float]]:
    """Mean over runs of what is kept, at every level that all of them reach."""
    points = [(step / 20, [kept_at(arm, step / 20) for arm in arms]) for step in range(18, 0, -1)]
    reached = [(level, [value for value in found if value is not None]) for level, found in points]
    return [(level, sum(found) / len(found)) for level, found in reached if len(found) == len(arms)]


def heat_map(effects: Mapping[int, Sequence[float]]) -> str:
    """A row of fields for each seed: the causal effect of every layer's MLP."""

    with canvas(1.2 + 0.3 * len(effects)) as (figure, axes):
        # polygons, and few enough steps of colour for the scale to be polygons too: matplotlib draws more as an image
        fields = axes.pcolormesh(list(effects.values()), cmap=colormaps["cividis"].resampled(32), vmin=0)
        layers = len(next(iter(effects.values())))
        axes.set_xticks([i + 0.5 for i in range(layers)], [str(i) for i in range(layers)])
        axes.set_yticks([i + 0.5 for i in range(len(effects))], [str(seed) for seed in effects])
        axes.set(xlabel="layer", ylabel="seed")
        figure.colorbar(fields, ax=axes, label="restored probability")
        return svg(figure, "Causal effect of each layer's MLP on the forget rows, by seed")
