"""Continual evaluation for lifelong learning: Identifying the stability gap.

arXiv 2205.13452, 2022-05; ICLR 2023. The metrics are those of `letheon.retain.metrics`. Split digits, evaluated after
every step: replay and GEM in the class-incremental form, LwF and EWC in the task-incremental one, where they retain
something. Each method's settings are its own defaults; LwF's and EWC's strengths come from `lifelong_review`'s tuning.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn

from letheon.papers.common.networks import seeded
from letheon.papers.kit.findings import Findings, Pairs, means
from letheon.papers.outcome import Scale
from letheon.report.plots import lines
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.gradient_split import GradientWatch
from letheon.retain.learn import learn
from letheon.retain.learned import Learned
from letheon.retain.models import mlp
from letheon.retain.stream import Scenario
from letheon.retain.streams.digits import rotated_digits, split_digits

# Batches of 32 new and 32 replayed rows; an epoch has about nine steps.
TRAINING: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 0.1, "evaluate_every": 1}
STRATEGY = "replay:capacity=200"
ANGLES = (15.0, 45.0, 90.0)
# "Far below": the minimum lies more than this below the final accuracy.
GAP = 0.1
# At a task switch the stability gradient is at most this share of the plasticity gradient.
NEXT_TO_NOTHING = 0.1
# Other methods: scenario, strategy, options. Clipping keeps EWC's penalty from diverging at this rate.
OTHERS: dict[str, tuple[Scenario, str, dict[str, Any]]] = {
    "GEM": ("class", "gem:capacity=200", {}),
    "LwF": ("task", "lwf", {}),
    "EWC": ("task", "ewc:strength=300.0", {"clip": 5.0}),
}
# A drop that counts, below what evaluation at task ends shows; test sets have about 70 rows per task. Chosen on seeds
# 1000 and 1001, where LwF and EWC drop by 0.02 to 0.05 and GEM by half.
SEEN = 0.02
PRIMARY = (
    "final minus minimum accuracy",
    "minimum at task ends minus minimum",
    "final minus minimum at task ends",
    *(f"{name}: minimum at task ends minus minimum" for name in OTHERS),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Evaluate experience replay after every step, on split digits and on two tasks that differ by a rotation."""
    found.baselines += ["the same runs evaluated at the ends of tasks only"]
    runs = {seed: replayed(seed) for seed in scale.seeds}
    rows = [row_of(seed, run, splits) for seed, (run, splits) in runs.items()]
    depths = {angle: [rotation_gap(seed, angle) for seed in scale.seeds] for angle in ANGLES}
    found.measured |= {
        **{f"replay, {name}": value for name, value in means(rows).items()},
        "with batch normalisation, rate 0.05": normalised(scale.seeds[0]),
        "depth of the gap by angle": {f"{angle:g}": sum(values) / len(values) for angle, values in depths.items()},
    }
    found.decide("final minus minimum accuracy", [row["gap"] for row in rows], above=GAP, value=False)
    found.decide("minimum at task ends minus minimum", [row["hidden"] for row in rows], above=GAP, value=False)
    found.decide("final minus minimum at task ends", [row["seen at ends"] for row in rows], below=GAP, value=False)
    for name, arm in OTHERS.items():
        others = [other(arm, seed) for seed in scale.seeds]
        found.measured[name] = means(others)
        found.decide(f"{name}: minimum at task ends minus minimum", [row["hidden"] for row in others], above=SEEN)
        found.report(f"{name}: final minus minimum accuracy", [row["gap"] for row in others], above=GAP)
    ratios = [row["ratio"] for row in rows]
    found.report("stability over plasticity at the switch", ratios, below=NEXT_TO_NOTHING, value=False)
    for narrow, wide in pairwise(ANGLES):
        name = f"depth, {wide:g} degrees minus {narrow:g}"
        found.report(name, Pairs(depths[narrow], depths[wide]), above=0.0, value=False)
    words = "Accuracy of each task after every step of replay"
    found.figures["curves"] = lines(curves(runs[scale.seeds[0]][0]), "step", "accuracy", words)
    found.rows += rows


def replayed(seed: int) -> tuple[Learned, list[Any]]:
    """One run of replay, with each step's gradient split into plasticity and stability."""
    watch = GradientWatch()
    composed = Composition([*read_strategy(STRATEGY).parts, watch], STRATEGY)
    run = learn(mlp([64, 100, 100, 10], seed), split_digits(), composed, seed=seed, **TRAINING)
    return run, watch.splits


def other(arm: tuple[Scenario, str, dict[str, Any]], seed: int) -> dict[str, float]:
    """The gap of one run of another method."""
    scenario, text, options = arm
    stream = split_digits(scenario=scenario)
    return gap_of(learn(mlp([64, 100, 100, 10], seed), stream, text, seed=seed, **TRAINING, **options))


def gap_of(run: Learned) -> dict[str, float]:
    """Final, minimum and task-end accuracies of old tasks."""
    at_ends, minimum = minimum_at_ends(run), run.metrics["minimum accuracy"] or 0.0
    old = float(run.matrix[-1, :-1].mean())  # the minimum is over old tasks, and is compared with them
    return {
        "gap": old - minimum,
        "hidden": at_ends - minimum,
        "seen at ends": old - at_ends,
        "final": run.metrics["average accuracy"] or 0.0,
        "minimum": minimum,
    }


def row_of(seed: int, run: Learned, splits: list[Any]) -> dict[str, Any]:
    """The metrics of one run, and those of an evaluation at task ends alone."""
    metrics = {name: value for name, value in run.metrics.items() if value is not None}
    switches = set(run.curve.ends[:-1])
    ratios = [split.stability / split.plasticity for split in splits if split.step in switches]
    return {"seed": seed, **metrics, **gap_of(run), "ratio": sum(ratios) / len(ratios)}


def minimum_at_ends(run: Learned) -> float:
    """min-ACC as it would be with evaluations at task ends only."""
    matrix = run.matrix
    k = len(matrix) - 1
    return sum(float(matrix[i + 2 :, i].min()) for i in range(k - 1)) / (k - 1)


def rotation_gap(seed: int, angle: float) -> float:
    """The deepest drop of accuracy on upright digits while digits turned by an angle are learned with replay."""
    stream = rotated_digits((0.0, angle))
    training = TRAINING | {"epochs": 2}
    run = learn(mlp([64, 100, 100, 10], seed), stream, STRATEGY, seed=seed, **training)
    before = float(run.matrix[1, 0])
    return before - (run.metrics["minimum accuracy"] or 0.0)


def normalised(seed: int) -> dict[str, float | None]:
    """The same network with batch normalisation at a rate of 0.05: the gap depends on the network."""

    def build() -> nn.Sequential:
        widths = ((64, 100), (100, 100))
        layers = [layer for a, b in widths for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(100, 10))

    training = TRAINING | {"learning_rate": 0.05}
    metrics = learn(seeded(build, seed), split_digits(), STRATEGY, seed=seed, **training).metrics
    return {name: metrics[name] for name in ("average accuracy", "minimum accuracy", "windowed forgetting 10")}


def curves(run: Learned) -> dict[str, list[tuple[float, float]]]:
    """Accuracy of each task over steps, from its own start."""
    values = run.curve.accuracies()
    return {
        name: [
            (step, value) for step, value in zip(run.curve.step, values[:, i], strict=True) if value == value and step
        ]
        for i, name in enumerate(run.tasks)
    }
