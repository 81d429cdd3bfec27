"""Geometric-disentanglement Unlearning.

arXiv 2511.17100, 2025-11; v4 of February 2026.
Not the method of arXiv 2605.01735, which carries a similar name and aligns hidden states.

Measured here: (1) on quadratic and logistic losses, the order in η of what one step does to the retain loss; (2) on
invented authors whom a small Llama knows, <g_r, Δθ> of the steps that were really taken; (3) there, the extraction
strength of known authors at equal, deep forgetting, read off each run's trajectory. The step (mode `realized`, the
default) is set against the plain step of the same objective with the same retain rows (so that gradient ascent is
GradDiff), and has to keep more; PCGrad, which it resembles, stands beside them. Every pair of objective and step has
its own rate, chosen on tuning seeds by what is kept at the same forget probability.
An earlier record gave gradient ascent no retain rows in the plain step, one rate to all steps, stopped SimNPO at a
forget probability of one half, and let a step pass that kept less by up to 0.01: it held without a gain for SimNPO.
Modes `normal` and `adam` are reported. Full scale in the paper: TOFU, MUSE and WMDP on models of 1B and up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.updates.geometric import normal_step
from letheon.papers.common.pcgrad import with_pcgrad
from letheon.papers.common.tofu_mini import make_world, new_model, split_authors, train
from letheon.papers.kit.arms import Arm, Taught, Trajectory, follow, memory_of
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.levels import EqualForgetting, Runs, at_equal_forgetting, first_crossing, from_deep
from letheon.papers.kit.retain_cosine import METRIC, with_retain_cosine
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

OBJECTIVES = ("grad_diff", "npo", "simnpo")
LEARNING_RATES = (3e-4, 1e-3, 3e-3)  # to choose from
UPDATES = {
    "plain": "",
    "realized": "+geometric:mode=realized",
    "normal": "+geometric:mode=normal",
    "adam": "+geometric:mode=adam",
}
PCGRAD = "pcgrad"
STEPS = 72  # of a run, which ends where it has forgotten
# Forget probability at which runs are compared. SimNPO's retain term outweighs its forget term eight times: on world
# 100 no step takes it far below 0.2.
DEEP = {"grad_diff": 0.2, "npo": 0.2, "simnpo": 0.3}
RATES = tuple(10 ** -(1 + i / 2) for i in range(7))  # 1e-1 to 1e-4
DRAWS = 8  # problems of each kind and seed
# Slopes: 1 and 2 in the limit; at 1e-1 the next order of the Taylor series still shows.
PLAIN_BELOW, NORMAL_ABOVE = 1.1, 1.9
# A cosine: float32 weights round each coordinate of a step to about 1e-4 of it, at random.
ROUNDING = 1e-5
PRIMARY = tuple(f"retain ES, {objective}, realized minus plain" for objective in OBJECTIVES)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: seconds for the orders, under a minute per seed for the authors, and as much per tuning seed."""
    found.baselines += ["the plain step of GradDiff, NPO and SimNPO (one AdamW step of the summed gradient)", "PCGrad"]
    orders = [order for seed in scale.seeds for order in step_orders(seed)]
    rates = tuned(found, scale)
    runs = {
        seed: {arm: run_of(scale, arm, rate, seed, watched=True) for arm, rate in rates.items()} for seed in scale.seeds
    }
    kept = {
        objective: compared(objective, {s: {step: arms[objective, step] for step in ARMS} for s, arms in runs.items()})
        for objective in OBJECTIVES
    }
    judge(found, orders, kept)
    found.figures |= figures(orders, kept)
    found.rows += [
        _row(seed, objective, update, run, one)
        for objective, one in kept.items()
        for seed, arms in one.runs.items()
        for update, run in arms.items()
    ]


# 1. The order of one step's damage


class Order(NamedTuple):
    """What one step does to the retain loss of a problem: |change| at each rate, and its slope on log-log axes."""

    seed: int
    step: str
    changes: list[float]
    slope: float


def step_orders(seed: int) -> list[Order]:
    """Plain and normal steps on `DRAWS` quadratic and as many logistic problems, in float64."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _, make in product(range(DRAWS), (_quadratic, _logistic)):
        forget, retain = make(generator)
        for step in ("plain", "normal"):
            found.append(_order(seed, step, forget, retain))
    return found


def _order(seed: int, step: str, forget: Callable[[Tensor], Tensor], retain: Callable[[Tensor], Tensor]) -> Order:
    """One descent step of the negated forget loss from the origin, at every rate."""
    point = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    (g_forget,) = torch.autograd.grad(-forget(point), point)
    (g_retain,) = torch.autograd.grad(retain(point), point)
    direction = g_forget
    if step == "normal":
        (direction,) = normal_step([g_forget], [g_retain], [[g_retain]], descend_retain=False)
    start = point.detach()
    changes = [abs(float(retain(start - rate * direction) - retain(start))) for rate in RATES]
    return Order(seed, step, changes, float(np.polyfit(np.log(RATES), np.log(changes), 1)[0]))


def _quadratic(generator: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """½ (θ − c)ᵀ A (θ − c) with centres that point the same way, so that forgetting pulls against keeping."""
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    shared = draw(12)

    def loss() -> Callable[[Tensor], Tensor]:
        root, centre = draw(12, 12), shared + 0.5 * draw(12)
        matrix = root @ root.T / 48 + 0.25 * torch.eye(12, dtype=torch.float64)  # η = 0.1 is a small step
        return lambda point: 0.5 * (point - centre) @ matrix @ (point - centre)

    return loss(), loss()


def _logistic(generator: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Logistic regression on 40 points each, with labels of one teacher."""
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    teacher = draw(12)

    def loss() -> Callable[[Tensor], Tensor]:
        inputs = draw(40, 12)
        signs = torch.sign(inputs @ teacher)
        return lambda point: torch.nn.functional.softplus(-signs * (inputs @ point)).mean()

    return loss(), loss()


# 2 and 3. TOFU-mini

Kept = Mapping[str, EqualForgetting]  # objective -> its runs under every update, at their common level


Pair = tuple[str, str]  # objective, step
ARMS = (*UPDATES, PCGRAD)


@cache
def taught(seed: int, scale: Scale) -> Taught:
    """A model that was trained to know every author of a small world, some of whom are to be forgotten."""
    full = scale.name == "full"
    world = make_world(seed) if full else make_world(seed, authors=16, forgotten=3, held_out=1)
    model = new_model(world, seed) if full else new_model(world, seed, layers=2, width=96)
    model.model.to(scale.device)
    train(model, world.known(forgotten=True), seed, epochs=30 if full else 40, learning_rate=3e-3 if full else 5e-3)
    shown, others = split_authors(world)
    return Taught(
        model, Request(forget=world.forget, retain=shown), memory_of({"forget": world.forget, "retain": others})
    )


def recipe_of(objective: str, update: str) -> Recipe:
    """The objective with a step."""
    return with_pcgrad(objective) if update == PCGRAD else Recipe.parse(objective + UPDATES[update])


def run_of(scale: Scale, arm: Pair, rate: float, seed: int, *, watched: bool = False) -> Trajectory:
    """One run from a copy of the taught model, until it has forgotten deeply.

    Args:
        watched: measure the cosine of every step with the retain gradient.
    """
    before, recipe = taught(seed, scale), recipe_of(*arm)
    plan = Arm(with_retain_cosine(recipe) if watched else recipe, rate, STEPS, batch_size=9)
    return follow(before.copied(), plan, seed, until=lambda point: point["forget_probability"] <= DEEP[arm[0]])


def tuned(found: Findings, scale: Scale) -> dict[Pair, float]:
    """Choose the rate of every objective and step by the retain set's extraction strength at deep forgetting."""
    arms = {f"{objective}, {update}": (objective, update) for objective in OBJECTIVES for update in ARMS}

    def score(name: str, rate: float, seed: int) -> float | None:
        run = run_of(scale, arms[name], rate, seed)
        return first_crossing(run.column("forget_probability"), run.column("retain_es"), DEEP[arms[name][0]])

    rates = choose(found, dict.fromkeys(arms, LEARNING_RATES), score)
    return {arms[name]: rate for name, rate in rates.items()}


def compared(objective: str, runs: Runs) -> EqualForgetting:
    """The runs of one objective at deep forgetting, or where all of them get under every seed."""
    return at_equal_forgetting(runs, compare=("plain", "realized"), keep="retain_es", levels=from_deep(DEEP[objective]))


def judge(found: Findings, orders: Sequence[Order], kept: Kept) -> None:
    """Measured values, intervals, and a verdict for each of the three parts."""
    slopes = {step: [order.slope for order in orders if order.step == step] for step in ("plain", "normal")}
    largest = {
        update: max(max(arms[update].metric(METRIC)) for one in kept.values() for arms in one.runs.values())
        for update in ARMS
    }
    found.measured |= {
        "slope of the retain loss's change, mean": {step: sum(each) / len(each) for step, each in slopes.items()},
        "largest cosine of a step with the retain gradient": largest,
        "compared at forget probability": {objective: one.level for objective, one in kept.items()},
        "retain ES there, mean": {objective: one.means() for objective, one in kept.items()},
    }
    found.intervals |= {f"slope, {step} (range)": [min(each), max(each)] for step, each in slopes.items()}
    found.check("a plain step's slope is 1", max(slopes["plain"]) < PLAIN_BELOW)
    found.check("a normal step's slope is 2", min(slopes["normal"]) > NORMAL_ABOVE)
    found.check("the realized step never points up the retain gradient", largest["realized"] <= ROUNDING)
    for objective, one in kept.items():
        found.check(f"{objective} is read at deep forgetting", one.level == DEEP[objective])
        found.decide(f"retain ES, {objective}, realized minus plain", one.pairs("plain", "realized"), above=0.0)
        for update in ("normal", "adam"):
            found.report(f"retain ES, {objective}, {update} minus plain", one.pairs("plain", update), above=0.0)
        found.report(f"retain ES, {objective}, realized minus PCGrad", one.pairs(PCGRAD, "realized"), above=0.0)


def _row(seed: int, objective: str, update: str, run: Trajectory, kept: EqualForgetting) -> dict[str, Any]:
    cosines = run.metric(METRIC)
    at_level = {"level": kept.level, "retain_es": kept.at(run)}
    own = {"largest_cosine": max(cosines), "mean_cosine": sum(cosines) / len(cosines)}
    last = {f"last_{name}": value for name, value in run.last.items()}
    return {"seed": seed, "objective": objective, "update": update, "steps": len(cosines), **at_level, **own, **last}


def figures(orders: Sequence[Order], kept: Kept) -> dict[str, str]:
    """The change of the retain loss over η, and for each objective extraction strength over forget probability."""
    falls = {}
    for step in ("plain", "normal"):
        changes = np.mean([order.changes for order in orders if order.step == step], axis=0)
        falls[step] = sorted(zip(RATES, changes.tolist(), strict=True))
    words = "Change of the retain loss after one plain and one normal step, over the learning rate"
    drawn = {"slopes": lines(falls, "learning rate η", "|change of the retain loss|", words, log=True)}
    for objective, one in kept.items():
        words = f"Retain extraction strength over forget probability, {objective}, mean of the seeds"
        name = f"kept-{objective.replace('_', '-')}"
        drawn[name] = one.figure("forget probability", "retain extraction strength", words)
    return drawn
