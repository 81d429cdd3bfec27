"""Continual evaluation for lifelong learning: Identifying the stability gap.

arXiv 2205.13452, 2022-05; ICLR 2023. The metrics are those of `letheon.retain.metrics`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from letheon.papers.catalogue import Outcome, Scale, paper
from letheon.papers.common.figures import lines
from letheon.papers.outcome import Claim, Findings, judge_values, means
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.gradient_split import GradientWatch
from letheon.retain.learn import learn
from letheon.retain.learned import Learned
from letheon.retain.models import mlp
from letheon.retain.streams.digits import rotated_digits, split_digits

# The note's reproduction: batch 32 + 32, rate 0.1, ten epochs a task (about nine steps each), a memory of 200.
TRAINING: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 0.1, "evaluate_every": 1}
STRATEGY = "replay:capacity=200"
ANGLES = (15.0, 45.0, 90.0)
# "Far below": the minimum lies a tenth of all test rows below the final accuracy.
GAP = 0.1
# At a switch the stability gradient is at most this share of the plasticity gradient.
NEXT_TO_NOTHING = 0.1


def reproduce(scale: Scale) -> Outcome:
    """Experience replay on split digits, evaluated after every step; two tasks that differ by a rotation."""

    claim = Claim("stability-gap", paper("stability-gap").claim, ["the same runs evaluated at the ends of tasks only"])
    runs = {seed: replayed(seed) for seed in scale.seeds}
    depths = {angle: [rotation_gap(seed, angle) for seed in scale.seeds] for angle in ANGLES}
    rows = [row_of(seed, run, splits) for seed, (run, splits) in runs.items()]
    steps = {
        f"{wide:g} degrees minus {narrow:g}": [b - a for a, b in zip(depths[narrow], depths[wide], strict=True)]
        for narrow, wide in pairwise(ANGLES)
    }
    judged = {
        "final minus minimum accuracy": judge_values([row["gap"] for row in rows], GAP, "above"),
        "minimum at task ends minus minimum": judge_values([row["hidden"] for row in rows], GAP, "above"),
        "final minus minimum at task ends": judge_values([row["seen at ends"] for row in rows], GAP, "below"),
    }
    beside = {
        "stability over plasticity at the switch": judge_values(
            [row["ratio"] for row in rows], NEXT_TO_NOTHING, "below"
        ),
        **{f"depth, {name}": judge_values(values, 0.0, "above") for name, values in steps.items()},
    }
    first = runs[scale.seeds[0]][0]
    told = {
        **{f"replay, {name}": value for name, value in means(rows).items()},
        "with batch normalisation, rate 0.05": normalised(scale.seeds[0]),
        "depth of the gap by angle": {f"{angle:g}": sum(found) / len(found) for angle, found in depths.items()},
    }
    figure = lines(curves(first), "step", "accuracy", "Accuracy of each task after every step of replay")
    return claim.outcome(Findings.by_arm(told, judged, beside), scale.seeds, {"curves": figure}, rows)


def replayed(seed: int) -> tuple[Learned, list[Any]]:
    """One run of replay with its gradients watched."""

    watch = GradientWatch()
    composed = Composition([*read_strategy(STRATEGY).parts, watch], STRATEGY)
    run = learn(mlp([64, 100, 100, 10], seed), split_digits(), composed, seed=seed, **TRAINING)
    return run, watch.splits


def row_of(seed: int, run: Learned, splits: list[Any]) -> dict[str, Any]:
    """What one run says: the metrics, and what evaluation at task ends alone would have said."""
    metrics = run.metrics
    at_ends = minimum_at_ends(run)
    final, minimum = metrics["average accuracy"], metrics["minimum accuracy"]
    old = float(run.matrix[-1, :-1].mean())  # the minimum is over old tasks, and is compared with them
    switches = set(run.curve.ends[:-1])
    ratios = [split.stability / split.plasticity for split in splits if split.step in switches]
    return {
        "seed": seed,
        **{name: value for name, value in metrics.items() if value is not None},
        "gap": old - (minimum or 0.0),
        "hidden": at_ends - (minimum or 0.0),
        "seen at ends": old - at_ends,
        "final": final,
        "ratio": sum(ratios) / len(ratios),
    }


def minimum_at_ends(run: Learned) -> float:
    """min-ACC as it would be with evaluations at task ends only."""
    matrix = run.matrix
    k = len(matrix) - 1
    return sum(float(matrix[i + 2 :, i].min()) for i in range(k - 1)) / (k - 1)


def rotation_gap(seed: int, angle: float) -> float:
    """How far the first task sinks, at its lowest, while the digits turned by an angle are learned with replay."""

    stream = rotated_digits((0.0, angle))
    training = TRAINING | {"epochs": 2}
    run = learn(mlp([64, 100, 100, 10], seed), stream, STRATEGY, seed=seed, **training)
    before = float(run.matrix[1, 0])
    return before - (run.metrics["minimum accuracy"] or 0.0)


def normalised(seed: int) -> dict[str, float | None]:
    """The same network with batch normalisation at a rate of 0.05: the gap depends on the network."""

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        widths = ((64, 100), (100, 100))
        layers = [layer for a, b in widths for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
        model = nn.Sequential(*layers, nn.Linear(100, 10))
    metrics = learn(model, split_digits(), STRATEGY, seed=seed, **(TRAINING | {"learning_rate": 0.05})).metrics
    return {name: metrics[name] for name in ("average accuracy", "minimum accuracy", "windowed forgetting 10")}


def curves(run: Learned) -> dict[str, list[tuple[float, float]]]:
    """Accuracy of each task over steps, from its own start on."""
    values = run.curve.accuracies()
    return {
        name: [
            (step, value) for step, value in zip(run.curve.step, values[:, i], strict=True) if value == value and step
        ]
        for i, name in enumerate(run.tasks)
    }
