"""KUDA: Knowledge Unlearning by Deviating Representation for Large Language Models.

arXiv 2602.19275, 2026-02.

Measured here on invented authors whom a small Llama has been trained to know. Three are to be forgotten; five of the
nine others are the retain rows; utility is measured on the remaining four, which the model knows and no run is shown.
Every run starts from the same model. The cosines are those of the recipe `kuda` at the end of 480 steps at one rate.
Compared where the forget probability has fallen to 0.2, or to the next level that all compared runs reach (then nothing
is decided): the recipe, the same without projection, gradient ascent, NPO and RMU, all on the same three matrices and
each at the rate that keeps most there under seeds that are not judged. A rate is chosen among those that reach 0.2
within the arm's number of steps; a judged run may take three times as many steps. (Two earlier records decided at
whatever level all runs reached, which was 0.7.) Reported, no part of the verdict:
other windows of layers than the traced one, a strict threshold (whose null space lets next to nothing move, so that it
stops forgetting by construction), and the projection without a retain loss.
Full scale in the paper: WMDP and MUSE on models of 7B and 8B.

The noise of the tracing is one standard deviation, not ROME's three: in a model this small nothing is left after three
that one MLP could restore (effects of -0.02 to 0.00 in all layers of seeds 0 and 1); after one the lowest layers can.
The numbers of steps and β were chosen on seeds 0, 1, 7 and 8, none of which is judged, so that runs forget (as in the
paper the threshold comes first, then β sets the strength).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

from letheon.core.model.models import LanguageModel
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request
from letheon.forget.scopes.traced import Settings, Traced
from letheon.papers.common.small_llama import steps_per_epoch
from letheon.papers.common.tofu_mini import World, make_world, new_model, split_authors
from letheon.papers.kit.arms import Arm, Taught, Trajectory, follow, memory_of
from letheon.papers.kit.findings import Findings, Pairs, mean
from letheon.papers.kit.levels import EqualForgetting, at_equal_forgetting, from_deep, kept_or_depth
from letheon.papers.kit.tuning import LONGER, choose
from letheon.papers.outcome import Scale
from letheon.report.plots import heat_map, lines, mean_course

BATCH = 6
RATE = 3e-3  # of three down projections alone, where no other is chosen; the paper's (5e-5, inferred) is for 7B
RATES = (1e-3, 3e-3, 1e-2)
DEEP = 0.2  # forget probability at which runs are compared, and where they end
FIRST_SEED = 20
TRACED: dict[str, Any] = {"noise": 1.0, "rows": 18, "draws": 5}
EQUAL = 80  # steps after which thresholds and windows are compared
COMPARED = ("none", "gradient_ascent", "npo", "rmu")
CURVES = ("kuda", *COMPARED)
WHOLE = "kuda, to its end"  # at `RATE`, as thresholds and windows are
WINDOWS = ("last window", "random window")
ALONE = ("no retain loss, projected", "no retain loss, not projected")
STRICT = 0.0  # the null space itself; the recipe's relaxed one is of the directions with 0.05 of the energy
# "Near or below 0", and the claim's limit on retain rows.
FORGET_BELOW, RETAIN_ABOVE = 0.1, 0.95
HALF = 0.5  # "stops forgetting", beside the claim


@dataclass(frozen=True)
class Trial:
    """One seed.

    Attributes:
        effect: the causal effect of every layer's MLP.
        window: first and last layer of the traced window.
        runs: every run by name.
        epoch: the number of steps that visit every forget row once.
    """

    effect: list[float]
    window: tuple[int, int]
    runs: dict[str, Trajectory]
    epoch: int = 1

    def at_end(self, name: str) -> float:
        """A metric of `WHOLE`, mean over the last epoch."""
        return sum(self.runs[WHOLE].metric(name)[-self.epoch :]) / self.epoch

    def size(self, name: str) -> float:
        """Mean |metric| of `WHOLE` over all steps but the first, where the retain loss has no gradient."""
        sizes = list(map(abs, self.runs[WHOLE].metric(name)[1:]))
        return sum(sizes) / len(sizes)


PRIMARY = (
    "forget cosine",
    "retain cosine",
    "|gradient cosine|, projected minus unprojected",
    *(f"kept, kuda minus {name}" for name in COMPARED),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: about a minute of one core per seed, and as much for each of the tuning seeds and rates."""
    found.baselines += ["KUDA without projection", "KUDA with a strict threshold", "gradient ascent", "NPO", "RMU"]
    found.seeds = [FIRST_SEED + seed for seed in scale.seeds]
    rates = choose(found, dict.fromkeys(CURVES, RATES), partial(kept_by, scale))
    start.cache_clear()
    trials = {seed: trial(seed, scale, rates) for seed in found.seeds}
    judge(found, trials)
    found.figures |= figures(trials)
    found.rows += [_row(seed, name, run) for seed, one in trials.items() for name, run in one.runs.items()]


# The runs


class Start(NamedTuple):
    """One seed before forgetting: the taught model, the traced window, and the causal effect of every layer's MLP."""

    taught: Taught
    window: tuple[int, int]
    effect: list[float]


@cache
def start(seed: int, scale: Scale) -> Start:
    """Draw a world, teach it to a model, and trace the forget rows."""
    full = scale.name == "full"
    world = make_world(seed, authors=40 if full else 12, forgotten=4 if full else 3, held_out=1)
    model = knowing_model(world, seed, scale)
    shown, others = split_authors(world)
    request, scope = Request(forget=world.forget, retain=shown), Traced(Settings(**TRACED))
    scope.select(model, request)
    window = (scope.window[0], scope.window[-1])
    taught = Taught(model, request, memory_of({"forget": world.forget, "retain": shown, "other": others}))
    return Start(taught, window, [line["effect"] for line in scope.table])


def kept_by(scale: Scale, name: str, rate: float, seed: int) -> float:
    """The probability of known answers not shown, where a compared run's forget probability has fallen to `DEEP`."""
    here = start(seed, scale)
    plan = plans_of(here.window, len(here.effect), seed, dict.fromkeys(CURVES, rate))[name]
    run = follow(here.taught.copied(), plan, seed, until=is_deep)
    return kept_or_depth(run, "forget_probability", "other_probability", DEEP)


def trial(seed: int, scale: Scale, rates: Mapping[str, float]) -> Trial:
    """Make all runs of one seed from the same model."""
    here = start(seed, scale)
    start.cache_clear()
    runs = {}
    for name, plan in plans_of(here.window, len(here.effect), seed, rates).items():
        longer = replace(plan, steps=LONGER * plan.steps) if name in CURVES else plan
        runs[name] = follow(here.taught.copied(), longer, seed, until=is_deep if name in CURVES else None)
    return Trial(here.effect, here.window, runs, epoch=steps_per_epoch(here.taught.request.forget, BATCH))


def is_deep(point: Mapping[str, float]) -> bool:
    """Whether a compared run ends here."""
    return point["forget_probability"] <= DEEP


def plans_of(window: tuple[int, int], layers: int, seed: int, rates: Mapping[str, float]) -> dict[str, Arm]:
    """The runs of one seed by name; the random window is neither the traced nor the last one if there is a third."""
    width = window[1] - window[0] + 1
    places = [(first, first + width - 1) for first in range(layers - width + 1)]
    last = places[-1]
    drawn = random.Random(seed).choice([place for place in places if place not in (window, last)] or [last])

    def at(place: tuple[int, int]) -> str:
        return f"kuda@layers={place[0]}-{place[1]}:parameters=down_proj"

    same = f"@layers={window[0]}-{window[1]}:parameters=down_proj"
    traced = "@traced:" + ",".join(f"{name}={value}" for name, value in TRACED.items())
    return {
        "kuda": Arm("kuda" + traced, rates["kuda"], 480, BATCH, every=10),
        WHOLE: Arm("kuda" + traced, RATE, 480, BATCH, every=10),
        "none": Arm("kuda+joint" + traced, rates["none"], 120, BATCH, every=10),
        "strict": Arm(f"kuda+null_space:threshold={STRICT}{traced}", RATE, EQUAL, BATCH, every=10),
        "last window": Arm(at(last), RATE, EQUAL, BATCH, every=10),
        "random window": Arm(at(drawn), RATE, EQUAL, BATCH, every=10),
        ALONE[0]: Arm(f"kuda:alpha=0+null_space{traced}", RATE, 40, BATCH, every=2),
        ALONE[1]: Arm(f"kuda:alpha=0+joint{traced}", RATE, 40, BATCH, every=2),
        "gradient_ascent": Arm("gradient_ascent" + same, rates["gradient_ascent"], 40, BATCH, every=2),
        "npo": Arm("npo" + same, rates["npo"], 80, BATCH, every=2),
        "rmu": Arm(f"rmu:layer={window[1]}{same}", rates["rmu"], 120, BATCH, every=10),
    }


def knowing_model(world: World, seed: int, scale: Scale) -> LanguageModel:
    """A model that was trained from nothing until it knows every author."""
    layers, width, batch, steps = (8, 128, 32, 900) if scale.name == "full" else (6, 64, 12, 350)
    model = new_model(world, seed, layers=layers, width=width)
    model.model.to(scale.device)
    settings = TrainSettings(3e-3, batch_size=batch, schedule="linear", warmup_steps=20, precision="float32", seed=seed)
    finetune(model, [*world.forget, *world.retain], settings, steps, title="authors")
    return model


# The verdict


def compared(trials: Mapping[int, Trial]) -> EqualForgetting:
    """The runs at deep forgetting, or where all compared runs get, read on known rows not shown."""
    runs = {seed: one.runs for seed, one in trials.items()}
    return at_equal_forgetting(runs, compare=CURVES, keep="other_probability", levels=from_deep(DEEP))


def judge(found: Findings, trials: Mapping[int, Trial]) -> None:
    """Measured values, intervals, and a verdict for each of the seven parts."""
    kept, each = compared(trials), list(trials.values())
    left = [fall(one.runs["strict"]) / fall(one.runs[WHOLE]) for one in each]
    turned = [one.size("alignment") - one.size("alignment_unprojected") for one in each]
    found.decide("forget cosine", [one.at_end("forget_cosine") for one in each], below=FORGET_BELOW)
    found.decide("retain cosine", [one.at_end("retain_cosine") for one in each], above=RETAIN_ABOVE)
    found.report("share of the forgetting left by a strict threshold", left, below=HALF)
    found.decide("|gradient cosine|, projected minus unprojected", turned, below=0.0)
    for name in COMPARED:
        found.decide(f"kept, kuda minus {name}", kept.pairs(name, "kuda"), above=0.0)
    found.check("read at deep forgetting", kept.level == DEEP)
    found.measured |= {
        "compared at forget probability": kept.level,
        "kept there": kept.means(arms=(*CURVES, *ALONE)),
        "share of directions kept": mean(one.at_end("kept") for one in each),
        "windows": [list(one.window) for one in each],
    }
    alone = kept.pairs(ALONE[1], ALONE[0])
    found.report("reported: kept without a retain loss, projected minus not", alone, value=False)
    for words, key in (("forget probability", "forget_probability"), ("kept", "other_probability")):
        values = {name: [one.runs[name].after(EQUAL, key) for one in each] for name in (WHOLE, "strict", *WINDOWS)}
        found.measured[f"{words} after {EQUAL} steps"] = {name: mean(column) for name, column in values.items()}
        for name in WINDOWS:
            difference = Pairs(values[WHOLE], values[name])
            found.report(f"reported: {words} after {EQUAL} steps, {name} minus traced", difference, value=False)


def fall(run: Trajectory) -> float:
    """By how much the forget probability has fallen after `EQUAL` steps."""
    return run.points[0]["forget_probability"] - run.after(EQUAL, "forget_probability")


def _row(seed: int, name: str, run: Trajectory) -> dict[str, Any]:
    states = {key: run.history[-1].get(key) for key in ("forget_cosine", "retain_cosine", "passed", "kept")}
    return {"seed": seed, "run": name, **run.last, **states}


def figures(trials: Mapping[int, Trial]) -> dict[str, str]:
    """The tracing, cosines of states and gradients over the steps, and utility over forgetting."""
    effects = [one.effect for one in trials.values()]
    layers = [str(layer) for layer in range(len(effects[0]))]

    def course(metric: str) -> list[tuple[float, float]]:
        """Means over the seeds and ten steps."""
        steps = [value for _, value in mean_course([one.runs[WHOLE].metric(metric) for one in trials.values()])]
        return [(i + 10, sum(steps[i : i + 10]) / len(steps[i : i + 10])) for i in range(0, len(steps), 10)]

    states = {"forget": course("forget_cosine"), "retain": course("retain_cosine")}
    angles = {"projected": course("alignment"), "unprojected": course("alignment_unprojected")}
    traced = "Causal effect of each layer's MLP (across) on the forget rows, by seed (down): restored probability"
    words = "Cosine of forget and retain gradient over the steps"
    kept = "Probability of known answers not shown over forget probability, mean of the seeds"
    across, up = "forget probability", "probability of known answers not shown"
    return {
        "tracing": heat_map(effects, list(map(str, trials)), layers, traced, low=0, high=max(map(max, effects))),
        "cosines": lines(states, "step", "cosine to the original", "Cosine of hidden states to the original ones"),
        "gradients": lines(angles, "step", "cosine with the retain gradient", words),
        "kept": compared(trials).figure(across, up, kept, arms=CURVES),
    }
