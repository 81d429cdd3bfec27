"""Does Continual Learning Equally Forget All Parameters?.

arXiv 2304.04158, 2023-04; ICML 2023. Full scale in the paper: split CIFAR-10, Tiny-ImageNet, medical images and PACS
with a ResNet-18. Here: split digits, a network with batch normalisation (and a small convolutional one for the lowest
layer), a memory of 100. Rates, places and steps of finetuning are not known from the paper; they are chosen under seeds
that are not reported. `hidden` is every weight between the first layer and the head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import nn

from letheon.core.statistics import estimate_mean
from letheon.papers.catalogue import Outcome, Scale, paper
from letheon.papers.common.figures import lines
from letheon.papers.common.networks import network, several
from letheon.papers.outcome import Claim, Findings, Judged, judge_pairs, judge_values, means
from letheon.report.figures import dots
from letheon.retain.dynamics import DynamicsWatch
from letheon.retain.learn import learn
from letheon.retain.replay_cost import replay_cost
from letheon.retain.strategies.fpf import FPF
from letheon.retain.strategy import Composition, read_strategy
from letheon.retain.streams.digits import split_digits

TRAINING: dict[str, Any] = {"epochs": 5, "batch_size": 32, "learning_rate": 0.05}
DYNAMICS = TRAINING | {"epochs": 10}
SIZES = [64, 100, 100, 10]
MIDDLE = "3"  # the second hidden layer's name
ARMS = {
    "naive": "naive",
    "replay": "replay:capacity=100",
    "fpf, rate 0.03": "fpf:capacity=100",
    "fpf elsewhere, rate 0.03": f"fpf:capacity=100,select={MIDDLE}",
    "fpf, all parameters, rate 0.03": "fpf:capacity=100,select=all",
    "fpf, by sensitivity": "fpf:capacity=100,select=auto",
    "10-fpf, 50 steps each": "fpf:capacity=100,k=10,steps=50",
    "replay + fpf": "replay:capacity=100+fpf",
}
RATES = (0.03, 0.1, 0.3)
# Each place at the rate that suits it, for as many steps.
PLACES = {
    "fpf": [f"fpf:capacity=100,rate={rate}" for rate in RATES],
    "fpf elsewhere": [f"fpf:capacity=100,select={MIDDLE},rate={rate}" for rate in RATES],
}
# 5 times 11 or 10 times 6 steps of 32 rows: a quarter of what replay draws (about 7,200 rows).
FRUGAL = [
    f"fpf:capacity=100,k={k},steps={steps},select={select},rate={rate}"
    for (k, steps), select, rate in product(((5, 11), (10, 6)), ("head/norm", "head/norm/bottom"), RATES)
]
TUNING_SEEDS = (1000, 1001)
EACH = 3  # runs a seed; one takes half a second
TIMES, FAR, NEAR, FRACTION = 5.0, 0.2, 0.05, 0.3

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def reproduce(scale: Scale) -> Outcome:
    """What moves when tasks change, what finetuning it repairs, and what k-FPF saves."""

    baselines = ["experience replay", "finetuning the second hidden layer, at its best rate", "all parameters"]
    claim = Claim("fpf", paper("fpf").claim, baselines)
    seeds = several(scale.seeds, EACH)
    chosen = {name: best(texts) for name, texts in (PLACES | {"k-fpf": FRUGAL}).items()}
    arms = ARMS | chosen
    runs = {name: [measured(text, seed) for seed in seeds] for name, text in arms.items()}
    moves = [moved(network_of(seed), seed) for seed in seeds]
    convolutional = [moved(convolutional_of(seed), seed) for seed in scale.seeds]
    judged, beside = judge(runs, moves)
    beside |= {
        f"convolutional: {role} over middle convolutions, more than {times:g}": judge_values(
            [found["distance"][role] / found["distance"]["hidden"] for found in convolutional], times, "above"
        )
        for role, times in (("head", TIMES), ("norm", TIMES), ("bottom", 1.0))
    }
    told = {
        **{name: means(rows) for name, rows in runs.items()},
        "movement across tasks, per parameter": _by_role(moves, "distance"),
        "the same, relative to the module's norm": _by_role(moves, "relative"),
        "convolutional network, per parameter": _by_role(convolutional, "distance"),
        "convolutional network, relative": _by_role(convolutional, "relative"),
        "chosen": chosen,
    }
    rows = [{"arm": name, **row} for name, rows in runs.items() for row in rows]
    return claim.outcome(Findings.by_arm(told, judged, beside), seeds, figures(runs, moves), rows)


def judge(runs: Runs, moves: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Judged], dict[str, Judged]]:
    """The parts of the claim and what belongs beside them, paired over seeds."""

    def column(name: str, metric: str = "average accuracy") -> list[float]:
        return [row[metric] for row in runs[name]]

    judged = {
        f"{role} over hidden weights, movement per parameter": judge_values(
            [found["distance"][role] / found["distance"]["hidden"] for found in moves], TIMES, "above"
        )
        for role in ("head", "norm")
    }
    shares = [a / b for a, b in zip(column("k-fpf", "rows"), column("replay", "rows"), strict=True)]
    judged |= {
        "fpf minus fpf elsewhere": judge_pairs(column("fpf elsewhere"), column("fpf"), FAR, "above"),
        "k-fpf minus replay": judge_pairs(column("replay"), column("k-fpf"), -NEAR, "above"),
        "share of replay's rows that k-fpf draws": judge_values(shares, FRACTION, "below"),
    }
    beside = {
        "finetuning all parameters is better than the forgetful ones": judge_pairs(
            column("fpf, rate 0.03"), column("fpf, all parameters, rate 0.03"), 0.0, "above"
        ),
        "fpf improves replay": judge_pairs(column("replay"), column("replay + fpf"), 0.0, "above"),
        "10-fpf at 50 steps near replay": judge_pairs(
            column("replay"), column("10-fpf, 50 steps each"), -NEAR, "above"
        ),
    }
    beside |= {
        f"{role} over the first layer, movement per parameter": judge_values(
            [found["distance"][role] / found["distance"]["bottom"] for found in moves], TIMES, "above"
        )
        for role in ("head", "norm")
    }
    return judged, beside


def best(texts: Sequence[str]) -> str:
    """The setting with the highest average accuracy under the tuning seeds."""
    return max(texts, key=lambda text: sum(measured(text, seed)["average accuracy"] for seed in TUNING_SEEDS))


def measured(text: str, seed: int) -> dict[str, Any]:
    """One arm, one seed: accuracy, and what was replayed for it."""

    run = learn(network_of(seed), split_digits(), text, seed=seed, **TRAINING)
    cost, fpf = replay_cost(run.learner), run.learner.strategy.find(FPF)
    moving = sum(parameter.numel() for parameter in fpf.chosen(run.learner)) if fpf is not None else 0
    return {
        "seed": seed,
        "average accuracy": run.metrics["average accuracy"],
        "rows": cost.rows,
        "operations": cost.forward + cost.backward,
        "share of parameters": moving / sum(parameter.numel() for parameter in run.learner.weights),
    }


def moved(model: nn.Module, seed: int) -> dict[str, Any]:
    """How far the modules move when tasks change under plain training: by role and by module."""

    watch = DynamicsWatch()
    composed = Composition([*read_strategy("naive").parts, watch], "naive, watched")
    learn(model, split_digits(), composed, seed=seed, **DYNAMICS)
    dynamics = watch.dynamics
    return {
        "seed": seed,
        "distance": dynamics.by_role(dynamics.across()),
        "relative": dynamics.by_role(dynamics.across(relative=True)),
        "moves": dynamics.moves,
    }


def network_of(seed: int) -> nn.Sequential:
    """Two hidden layers with batch normalisation, a head without a bias."""

    return network(SIZES, seed, batch_norm=True)


def convolutional_of(seed: int) -> nn.Sequential:
    """Three convolutions with batch normalisation, a head without a bias."""

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
        for width, out in ((1, 16), (16, 16), (16, 16)):
            layers += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 10, bias=False))


def _by_role(moves: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    return {role: sum(found[metric][role] for found in moves) / len(moves) for role in moves[0][metric]}


def figures(runs: Runs, moves: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Movement across tasks by module, and accuracy beside the rows that were replayed for it."""

    first = [move for move in moves[0]["moves"] if move.kind == "across" and not move.module.endswith("bias")]
    epochs = 1 + max(move.epoch for move in first)
    series: dict[str, list[tuple[float, float]]] = {}
    for move in first:
        point = (move.task * epochs + move.epoch + 1, math.log10(move.distance))
        series.setdefault(move.module, []).append(point)
    arms = {
        f"{name} ({means(rows)['rows']:.0f} rows)": {name: estimate_mean([row["average accuracy"] for row in rows])}
        for name, rows in runs.items()
    }
    across = "Movement of each module from the same epoch of the task before, per parameter, first seed"
    return {
        "movement": lines(series, "epoch", "log10 of movement", across),
        "accuracy": dots(arms, "average accuracy", "Average accuracy after the last task beside the rows replayed"),
    }
