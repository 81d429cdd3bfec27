"""Does Continual Learning Equally Forget All Parameters?.

arXiv 2304.04158, 2023-04; ICML 2023. Full scale in the paper: split CIFAR-10, Tiny-ImageNet, medical images and PACS
with a ResNet-18. Here: split digits, a network with batch normalisation (and a small convolutional one for the lowest
layer), a memory of 100. The paper's rates, places and steps of finetuning are not known; each arm's are those with the
best average accuracy under seeds that are not judged. Movement is judged on both networks against all other weights:
those between the first layer and the head (`hidden`) and those of the first layer (`bottom`). The second hidden layer,
which is finetuned instead of head and norms, has seven times as many parameters as they have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from torch import nn

from letheon.papers.common.networks import network, seeded
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.report.plots import lines
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.dynamics import DynamicsWatch
from letheon.retain.learn import learn
from letheon.retain.replay_cost import replay_cost
from letheon.retain.strategies.fpf import FPF
from letheon.retain.streams.digits import split_digits

TRAINING: dict[str, Any] = {"epochs": 5, "batch_size": 32, "learning_rate": 0.05}
DYNAMICS = TRAINING | {"epochs": 10}
SIZES = [64, 100, 100, 10]
MIDDLE = "3"  # name of the second hidden layer
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
# Parameters that are finetuned with a schedule and a rate of their own.
PLACES = {"fpf": "head/norm", "fpf elsewhere": MIDDLE, "fpf, all parameters": "all"}
FRUGAL = {"k-fpf": "head/norm", "k-fpf, first layer too": "head/norm/bottom"}
RATES = (0.03, 0.1, 0.3, 0.9)
ONCE = ((0, 100),)  # k and steps: once, after the last task
# 5 times 11 or 10 times 6 steps of 32 rows: a quarter of the rows that replay draws (about 7,200).
OFTEN = ((5, 11), (10, 6))
Setting = tuple[int, int, float]  # k, steps of each finetuning, rate
TRIED: dict[str, list[Setting]] = {
    name: [(*schedule, rate) for schedule, rate in product(schedules, RATES)]
    for names, schedules in ((PLACES, ONCE), (FRUGAL, OFTEN))
    for name in names
}
TUNING_SEEDS = (1000, 1001, 1002, 1003)
TIMES, FAR, NEAR, FRACTION = 5.0, 0.2, 0.05, 0.3

Moves = Sequence[Mapping[str, Any]]
OTHERS = {"hidden": "hidden weights", "bottom": "the first layer"}
NETWORKS = ("perceptron", "convolutional")
PRIMARY = (
    *(
        f"{kind}: {role} over {other}, movement per parameter"
        for kind, role, other in product(NETWORKS, ("head", "norm"), OTHERS.values())
    ),
    "fpf minus fpf elsewhere",
    "k-fpf minus replay",
)
SHARE = "k-fpf draws less than three tenths of replay's rows"


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure which modules move when tasks change, what finetuning them repairs, and what k-FPF saves."""
    found.baselines += [
        "experience replay", "finetuning the second hidden layer, at its best rate", "all parameters"
    ]  # fmt: skip
    results = run_arms(measured, ARMS | tuned(found), scale.seeds)
    moves = [moved(network_of(seed), seed) for seed in scale.seeds]
    convolutional = [moved(convolutional_of(seed), seed) for seed in scale.seeds]
    results.record(found)
    found.measured |= {
        "movement across tasks, per parameter": _by_role(moves, "distance"),
        "the same, relative to the module's norm": _by_role(moves, "relative"),
        "convolutional network, per parameter": _by_role(convolutional, "distance"),
        "convolutional network, relative": _by_role(convolutional, "relative"),
    }
    judge(results, {"perceptron": moves, "convolutional": convolutional}, found)
    found.figures |= figures(results, moves)


def judge(results: Results, moves: Mapping[str, Moves], found: Findings) -> None:
    """Decide on movement per parameter, on finetuning here and elsewhere, and on k-FPF beside replay.

    How many rows k-FPF draws follows from its settings; that they are few is a condition of the claim.
    """
    accuracy = "average accuracy"
    for kind, role, other in product(moves, ("head", "norm"), OTHERS):
        name = f"{kind}: {role} over {OTHERS[other]}, movement per parameter"
        ratios = [move["distance"][role] / move["distance"][other] for move in moves[kind]]
        found.decide(name, ratios, above=TIMES)
    results.decide(found, "fpf minus fpf elsewhere", accuracy, "fpf", "fpf elsewhere", above=FAR)
    results.decide(found, "k-fpf minus replay", accuracy, "k-fpf", "replay", above=-NEAR)
    drawn = (results.column(arm, "rows") for arm in ("k-fpf", "replay"))
    shares = [ours / replayed for ours, replayed in zip(*drawn, strict=True)]
    found.check(SHARE, max(shares) < FRACTION)
    found.measured["share of replay's rows that k-fpf draws"] = mean(shares)
    name = "finetuning all parameters is better than the forgetful ones"
    results.report(found, name, accuracy, "fpf, all parameters", "fpf", above=0.0)
    name = "k-fpf with the first layer, minus replay"
    results.report(found, name, accuracy, "k-fpf, first layer too", "replay", above=-NEAR)
    results.report(found, "fpf improves replay", accuracy, "replay + fpf", "replay", above=0.0)
    name, many = "10-fpf at 50 steps near replay", "10-fpf, 50 steps each"
    results.report(found, name, accuracy, many, "replay", above=-NEAR)


def _by_role(moves: Moves, metric: str) -> dict[str, float]:
    return {role: sum(move[metric][role] for move in moves) / len(moves) for role in moves[0][metric]}


def tuned(found: Findings) -> dict[str, str]:
    """Each arm's strategy with the schedule and the rate of the best average accuracy under the tuning seeds."""

    def score(name: str, setting: Setting, seed: int) -> float:
        return float(measured(strategy_of(name, setting), seed)["average accuracy"])

    settings = choose(found, TRIED, score, TUNING_SEEDS)
    return {name: strategy_of(name, setting) for name, setting in settings.items()}


def strategy_of(name: str, setting: Setting) -> str:
    """The strategy of a tuned arm with one of its settings."""
    k, steps, rate = setting
    return f"fpf:capacity=100,select={(PLACES | FRUGAL)[name]},k={k},steps={steps},rate={rate}"


def measured(text: str, seed: int) -> dict[str, Any]:
    """Accuracy of one run, and the cost of its replay."""
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
    """Movement of the modules when tasks change under plain training, by role and by module."""
    watch = DynamicsWatch()
    strategy = Composition([*read_strategy("naive").parts, watch], "naive, watched")
    learn(model, split_digits(), strategy, seed=seed, **DYNAMICS)
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

    def build() -> nn.Sequential:
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
        for width, out in ((1, 16), (16, 16), (16, 16)):
            layers += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 10, bias=False))

    return seeded(build, seed)


def figures(results: Results, moves: Moves) -> dict[str, str]:
    """Movement across tasks by module, and accuracy beside the number of replayed rows."""
    first = [move for move in moves[0]["moves"] if move.kind == "across" and not move.module.endswith("bias")]
    epochs = 1 + max(move.epoch for move in first)
    series: dict[str, list[tuple[float, float]]] = {}
    for move in first:
        point = (move.task * epochs + move.epoch + 1, math.log10(move.distance))
        series.setdefault(move.module, []).append(point)
    drawn, accuracies = results.means(["rows"]), results.estimates("average accuracy")
    arms = {f"{name} ({drawn[name]['rows']:.0f} rows)": {name: accuracies[name]} for name in results.arms}
    across = "Movement of each module from the same epoch of the task before, per parameter, first seed"
    return {
        "movement": lines(series, "epoch", "log10 of movement", across),
        "accuracy": dots(arms, "average accuracy", "Average accuracy after the last task beside the rows replayed"),
    }
