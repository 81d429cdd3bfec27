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

from letheon.core.training.loop import TrainSettings
from letheon.forget.request import Request
from letheon.forget.updates.geometric import normal_step
from letheon.papers.catalogue import Outcome, Scale, verdict_from_interval
from letheon.papers.common.figures import lines
from letheon.papers.common.tofu_mini import copy_of, make_world, new_model, train
from letheon.papers.common.trajectory import Trajectory, first_crossing, follow, memory_of
from letheon.papers.outcome import Claim, Findings, Judged, judge_pairs, mean

# Learning rates. SimNPO's retain term outweighs its forget term eight times: at the others' rate it neither forgets
# nor harms enough to tell two updates apart.
RATE = {"gradient_ascent": 3e-4, "npo": 3e-4, "simnpo": 1e-3}
OBJECTIVES = tuple(RATE)
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
# The deepest level of forgetting that every run of an objective reaches is where its runs are compared.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
CLAIM = (
    "|change of the retain loss| after one step grows with eta to a power above 1.9 for the normal step, below 1.1 for "
    "the plain one; the realized step's cosine with the retain gradient is at most 1e-5; at equal forget probability "
    "the retain set's extraction strength is not lower than the plain step's by 0.01 or more, for each of three "
    "objectives and three modes"
)


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: seconds for the orders, a minute or two a seed for TOFU-mini."""
    baselines = ["the plain step of gradient ascent, NPO and SimNPO (one AdamW step of the summed gradient)"]
    claim = Claim("gu", CLAIM, baselines)
    orders = [order for seed in scale.seeds for order in step_orders(seed)]
    runs = {seed: forgetting_runs(seed, scale) for seed in scale.seeds}
    levels = {objective: common_level(runs, objective) for objective in OBJECTIVES}
    rows = [_row(seed, *arm, run, levels[arm[0]]) for seed, arms in runs.items() for arm, run in arms.items()]
    return claim.outcome(judged(orders, runs, levels), scale.seeds, figures(orders, runs), rows)


# 1. The order of one step's damage


class Order(NamedTuple):
    """What one step does to the retain loss of a problem: |change| at each rate, and its slope on log-log axes."""

    kind: str
    step: str
    changes: list[float]
    slope: float


def step_orders(seed: int) -> list[Order]:
    """Plain and normal steps on `DRAWS` quadratic and as many logistic problems, in float64."""

    generator = torch.Generator().manual_seed(seed)
    found = []
    for _, (kind, make) in product(range(DRAWS), (("quadratic", _quadratic), ("logistic", _logistic))):
        forget, retain = make(generator)
        for step in ("plain", "normal"):
            found.append(_order(kind, step, forget, retain))
    return found


def _order(kind: str, step: str, forget: Callable[[Tensor], Tensor], retain: Callable[[Tensor], Tensor]) -> Order:
    """One descent step of the negated forget loss from the origin, at every rate."""

    point = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    (g_forget,) = torch.autograd.grad(-forget(point), point)
    (g_retain,) = torch.autograd.grad(retain(point), point)
    direction = g_forget
    if step == "normal":
        (direction,) = normal_step([g_forget], [g_retain], [[g_retain]], descend_retain=False)
    start = point.detach()
    changes = [abs(float(retain(start - rate * direction) - retain(start))) for rate in RATES]
    return Order(kind, step, changes, float(np.polyfit(np.log(RATES), np.log(changes), 1)[0]))


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

Runs = Mapping[int, Mapping[tuple[str, str], "Trajectory"]]


def forgetting_runs(seed: int, scale: Scale) -> dict[tuple[str, str], Trajectory]:
    """Every objective under every update, each from the same trained model, with the same rows and steps."""

    full = scale.name == "full"
    world = make_world(seed)
    model = new_model(world, seed)
    model.model.to(scale.device)
    train(model, world.known(forgotten=True), seed)
    request = Request(forget=world.forget, retain=world.retain)
    measure = memory_of({"forget": world.forget, "retain": world.retain[:: 1 if full else 4]})
    steps, slower = (72, 3.0) if full else (24, 1.0)
    runs = {}
    for objective, (update, text) in product(OBJECTIVES, UPDATES.items()):
        training = TrainSettings(RATE[objective] / slower, batch_size=8, precision="float32", seed=seed)
        watched = follow(copy_of(model), request, objective + text, measure, steps=steps, training=training)
        runs[objective, update] = watched
    return runs


def common_level(runs: Runs, objective: str) -> float | None:
    """The lowest of `LEVELS` to which every run of an objective brings the forget probability."""
    lowest = [
        min(run.column("forget_probability"))
        for arms in runs.values()
        for arm, run in arms.items()
        if arm[0] == objective
    ]
    return next((level for level in LEVELS if max(lowest) <= level), None)


def kept_at(run: Trajectory, level: float | None) -> float | None:
    """Retain extraction strength where the forget probability first falls to a level."""

    if level is None:
        return None
    return first_crossing(run.column("forget_probability"), run.column("retain_es"), level)


def judged(orders: Sequence[Order], runs: Runs, levels: Mapping[str, float | None]) -> Findings:
    """What was measured, its intervals, and a verdict for every part of the claim."""
    slopes = {step: [order.slope for order in orders if order.step == step] for step in ("plain", "normal")}
    largest = {
        update: max(max(arms[objective, update].cosines) for arms in runs.values() for objective in OBJECTIVES)
        for update in UPDATES
    }
    found = Findings(
        measured={
            "slope of the retain loss's change, mean": {step: sum(each) / len(each) for step, each in slopes.items()},
            "largest cosine of a step with the retain gradient": largest,
            "compared at forget probability": dict(levels),
            "retain ES there, plain, mean": {goal: _mean_kept(runs, goal, levels) for goal in OBJECTIVES},
        },
        intervals={f"slope, {step} (range)": [min(each), max(each)] for step, each in slopes.items()},
        parts={
            "slope, plain": verdict_from_interval(min(slopes["plain"]), max(slopes["plain"]), PLAIN_BELOW, "below"),
            "slope, normal": verdict_from_interval(min(slopes["normal"]), max(slopes["normal"]), NORMAL_ABOVE, "above"),
            "realized step": "holds" if largest["realized"] <= ROUNDING else "fails",
        },
    )
    for goal, update in product(OBJECTIVES, list(UPDATES)[1:]):
        found.decide({f"retain ES, {goal}, {update} minus plain": _gain(runs, goal, update, levels[goal])})
    return found


def _mean_kept(runs: Runs, objective: str, levels: Mapping[str, float | None]) -> float | None:
    return mean(kept_at(arms[objective, "plain"], levels[objective]) for arms in runs.values())


def _gain(runs: Runs, objective: str, update: str, level: float | None) -> Judged:
    """Paired over seeds: retain extraction strength under an update minus under the plain step."""
    plain, ours = ([kept_at(arms[objective, name], level) for arms in runs.values()] for name in ("plain", update))
    return judge_pairs(plain, ours, -MARGIN, "above")


def _row(seed: int, objective: str, update: str, run: Trajectory, level: float | None) -> dict[str, Any]:
    last = {f"last_{name}": value for name, value in run.points[-1].items()}
    mean = sum(run.cosines) / len(run.cosines)
    kept = {"level": level, "retain_es": kept_at(run, level), "largest_cosine": max(run.cosines), "mean_cosine": mean}
    return {"seed": seed, "objective": objective, "update": update, "steps": len(run.cosines), **kept, **last}


def figures(orders: Sequence[Order], runs: Runs) -> dict[str, str]:
    """The change of the retain loss over η, and what is kept over what is forgotten for each objective."""

    def means(columns: Sequence[Sequence[float]]) -> list[float]:
        return [sum(column) / len(column) for column in zip(*columns, strict=True)]

    falls = {
        step: sorted(zip(RATES, means([order.changes for order in orders if order.step == step]), strict=True))
        for step in ("plain", "normal")
    }
    words = "Change of the retain loss after one plain and one normal step, over the learning rate"
    drawn = {"slopes": lines(falls, "learning rate η", "|change of the retain loss|", words, log=True)}
    for objective in OBJECTIVES:
        series = {update: _curve([arms[objective, update] for arms in runs.values()]) for update in UPDATES}
        words = f"Retain extraction strength over forget probability, {objective}, mean of the seeds"
        across, up = "forget probability", "retain extraction strength"
        drawn[f"kept-{objective.replace('_', '-')}"] = lines(series, across, up, words, falling=True)
    return drawn


def _curve(runs: Sequence[Trajectory]) -> list[tuple[float, float]]:
    """Mean over runs of what is kept, at every level that all of them reach."""
    levels = [level / 20 for level in range(19, 0, -1)]
    points = [(level, [kept_at(run, level) for run in runs]) for level in levels]
    reached = [(level, [value for value in found if value is not None]) for level, found in points]
    return [(level, sum(found) / len(found)) for level, found in reached if len(found) == len(runs)]
