"""Geometric-disentanglement Unlearning.

arXiv 2511.17100, 2025-11; v4 of February 2026.
Not the method of arXiv 2605.01735, which carries a similar name and aligns hidden states.

Measured here: (1) on quadratic and logistic losses, the order in η of what one step does to the retain loss; (2) on
TOFU-mini, <g_r, Δθ> of the steps that were really taken; (3) there, the retain set's extraction strength at equal
forget probability, read off each run's trajectory. Full scale in the paper: TOFU, MUSE and WMDP on models of 1B and up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from letheon.forget.request import Request
from letheon.forget.updates.geometric import normal_step
from letheon.papers.common.tofu_mini import make_world, new_model, train
from letheon.papers.kit.arms import Arms, Taught, Trajectory, memory_of
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.levels import EqualForgetting, Runs, at_equal_forgetting
from letheon.papers.kit.retain_cosine import METRIC, with_retain_cosine
from letheon.papers.outcome import Scale

# Learning rates. SimNPO's retain term outweighs its forget term eight times: at the others' rate it neither forgets
# nor harms enough to tell two updates apart.
OBJECTIVES = {"gradient_ascent": 3e-4, "npo": 3e-4, "simnpo": 1e-3}
UPDATES = {
    "plain": "",
    "normal": "+geometric:mode=normal",
    "adam": "+geometric:mode=adam",
    "realized": "+geometric:mode=realized",
}
RATES = tuple(10 ** -(1 + i / 2) for i in range(7))  # 1e-1 to 1e-4
DRAWS = 8  # problems of each kind and seed
# Slopes: 1 and 2 in the limit; at 1e-1 the next order of the Taylor series still shows.
PLAIN_BELOW, NORMAL_ABOVE = 1.1, 1.9
# A cosine: float32 weights round each coordinate of a step to about 1e-4 of it, at random.
ROUNDING = 1e-5
# "Not lower": by less than one answer token in a hundred.
MARGIN = 0.01
PRIMARY = tuple(
    f"retain ES, {objective}, {update} minus plain" for objective, update in product(OBJECTIVES, list(UPDATES)[1:])
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: seconds for the orders, a minute or two per seed for TOFU-mini."""
    found.baselines += ["the plain step of gradient ascent, NPO and SimNPO (one AdamW step of the summed gradient)"]
    orders = [order for seed in scale.seeds for order in step_orders(seed)]
    worlds = {seed: taught(seed, scale) for seed in scale.seeds}
    kept = {
        objective: compared({seed: arms_of(objective, scale).run(world, seed) for seed, world in worlds.items()})
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

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shared = draw(12)

    def loss() -> Callable[[Tensor], Tensor]:
        root, centre = draw(12, 12), shared + 0.5 * draw(12)
        matrix = root @ root.T / 48 + 0.25 * torch.eye(12, dtype=torch.float64)  # η = 0.1 is a small step
        return lambda point: 0.5 * (point - centre) @ matrix @ (point - centre)

    return loss(), loss()


def _logistic(generator: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Logistic regression on 40 points each, with labels of one teacher."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    teacher = draw(12)

    def loss() -> Callable[[Tensor], Tensor]:
        inputs = draw(40, 12)
        signs = torch.sign(inputs @ teacher)
        return lambda point: torch.nn.functional.softplus(-signs * (inputs @ point)).mean()

    return loss(), loss()


# 2 and 3. TOFU-mini

Kept = Mapping[str, EqualForgetting]  # objective -> its runs under every update, at their common level


def taught(seed: int, scale: Scale) -> Taught:
    """A model that was trained to know every author of TOFU-mini, some of whom are to be forgotten."""
    world = make_world(seed)
    model = new_model(world, seed)
    model.model.to(scale.device)
    train(model, world.known(forgotten=True), seed)
    measured_rows = world.retain[:: 1 if scale.name == "full" else 4]
    measure = memory_of({"forget": world.forget, "retain": measured_rows})
    return Taught(model, Request(forget=world.forget, retain=world.retain), measure)


def arms_of(objective: str, scale: Scale) -> Arms:
    """The objective under every update."""
    recipes = {update: with_retain_cosine(objective + text) for update, text in UPDATES.items()}
    fast = Arms(recipes, rate=OBJECTIVES[objective], steps=24, batch_size=8)
    return fast.at_scale(scale, fast.replace(rate=fast.rate / 3, steps=72))


def compared(runs: Runs) -> EqualForgetting:
    """The runs of one objective at the deepest forget probability that all of them reach under every seed."""
    return at_equal_forgetting(runs, compare=UPDATES, keep="retain_es")


def judge(found: Findings, orders: Sequence[Order], kept: Kept) -> None:
    """Measured values, intervals, and a verdict for each of the twelve parts."""
    slopes = {step: [order.slope for order in orders if order.step == step] for step in ("plain", "normal")}
    largest = {
        update: max(max(arms[update].metric(METRIC)) for one in kept.values() for arms in one.runs.values())
        for update in UPDATES
    }
    found.measured |= {
        "slope of the retain loss's change, mean": {step: sum(each) / len(each) for step, each in slopes.items()},
        "largest cosine of a step with the retain gradient": largest,
        "compared at forget probability": {objective: one.level for objective, one in kept.items()},
        "retain ES there, plain, mean": {objective: mean(one.values("plain")) for objective, one in kept.items()},
    }
    found.intervals |= {f"slope, {step} (range)": [min(each), max(each)] for step, each in slopes.items()}
    found.check("a plain step's slope is 1", max(slopes["plain"]) < PLAIN_BELOW)
    found.check("a normal step's slope is 2", min(slopes["normal"]) > NORMAL_ABOVE)
    found.check("the realized step never points up the retain gradient", largest["realized"] <= ROUNDING)
    for (objective, one), update in product(kept.items(), list(UPDATES)[1:]):
        found.decide(f"retain ES, {objective}, {update} minus plain", one.pairs("plain", update), above=-MARGIN)


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
