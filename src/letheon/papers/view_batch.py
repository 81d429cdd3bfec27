"""Do Your Best and Get Enough Rest for Continual Learning.

arXiv 2503.18371, 2025-03; CVPR 2025. Full scale in the paper: split CIFAR-10, iCaRL, a memory of 200 and a ResNet-18
that learns for 50 epochs a task. Here: split digits with replay, a memory of 100 and a small network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from letheon.core.statistics import estimate_mean
from letheon.papers.catalogue import Outcome, Scale, paper
from letheon.papers.outcome import Claim, Findings, Judged, judge_pairs, judge_values, means
from letheon.report.figures import dots
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.strategies.view_batch import RecallWatch, Settings, ViewBatch
from letheon.retain.streams.digits import split_digits

EPOCHS = 40
TRAINING: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 32, "learning_rate": 0.1}
VIEWS = (1, 2, 4, 8)
FOUR, ONE, RESHUFFLED, FEWER = "4 views", "1 views", "4 views, reshuffled", "1 views, a quarter of the epochs"
# The options of view_batch and the epochs. One view is as strongly distorted as the others are. Reshuffled, a row still
# rests for about as many epochs as there are views on average, but one time for none and another time for many.
ARMS: dict[str, tuple[dict[str, Any] | None, int]] = {
    "plain replay": (None, EPOCHS),
    **{f"{views} views": ({"views": views}, EPOCHS) for views in VIEWS},
    "4 views, no divergence": ({"views": 4, "alpha": 0.0}, EPOCHS),
    RESHUFFLED: ({"views": 4, "reshuffle": True}, EPOCHS),
    FEWER: ({"views": 1}, EPOCHS // 4),
}
HOST = "replay:capacity=100,fill=task"
METRICS = ("average accuracy", "forgetting", "interval")

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def reproduce(scale: Scale) -> Outcome:
    """Views from one to eight at equal steps, and the controls of distortion, of rest and of steps."""
    claim = Claim("view-batch", paper("view-batch").claim, ["replay", ONE, RESHUFFLED, FEWER])
    runs = {name: [measured(*arm, seed) for seed in scale.seeds] for name, arm in ARMS.items()}
    found = Findings.by_arm({name: means(rows, METRICS) for name, rows in runs.items()}, *judge(runs))
    for views in VIEWS:
        apart = max(abs(row["interval"] - views) for row in runs[f"{views} views"])
        found.parts[f"interval of {views} views is {views} epochs"] = "holds" if apart < 1e-9 else "fails"
    rows = [{"arm": name, **row} for name, rows in runs.items() for row in rows]
    return claim.outcome(found, scale.seeds, figures(runs), rows)


def judge(runs: Runs) -> tuple[dict[str, Judged], dict[str, Judged]]:
    """The claim's parts on forgetting, and accuracies beside them; all paired over seeds."""

    def against(ours: str, other: str, metric: str) -> tuple[list[float], list[float]]:
        return [row[metric] for row in runs[other]], [row[metric] for row in runs[ours]]

    judged = {
        f"forgetting: {FOUR} below {other}": judge_pairs(*against(FOUR, other, "forgetting"), 0.0, "below")
        for other in (ONE, RESHUFFLED, FEWER)
    }
    judged["forgetting: 8 views above 4"] = judge_pairs(*against("8 views", FOUR, "forgetting"), 0.0, "above")
    beside = {
        f"average accuracy: {FOUR} above {other}": judge_pairs(*against(FOUR, other, "average accuracy"), 0.0, "above")
        for other in ("plain replay", ONE, RESHUFFLED, "4 views, no divergence")
    }
    steps = [row["steps"] - runs[ONE][i]["steps"] for i, row in enumerate(runs[FOUR])]
    beside["steps of 4 views are not more than of 1"] = judge_values(steps, 0.5, "below")
    return judged, beside


def measured(options: Mapping[str, Any] | None, epochs: int, seed: int) -> dict[str, Any]:
    """One arm, one seed; the recall interval as it was, in epochs (passes over the task's rows), a mean over rows."""

    settings = None if options is None else Settings(**options)
    watch, parts = RecallWatch(1 if settings is None else settings.views), read_strategy(HOST).parts
    if settings is not None:
        parts = [ViewBatch(settings), *parts]
    composed, training = Composition([*parts, watch], HOST), TRAINING | {"epochs": epochs}
    run = learn(mlp([64, 100, 100, 10], seed), split_digits(), composed, seed=seed, **training)
    return {
        "seed": seed,
        "average accuracy": run.metrics["average accuracy"],
        "forgetting": run.metrics["forgetting"],
        "interval": float(watch.intervals().mean()),
        "steps": run.steps,
    }


def figures(runs: Runs) -> dict[str, str]:
    """Forgetting and accuracy of every arm."""

    drawn = {}
    for metric in ("forgetting", "average accuracy"):
        groups = {name: {name: estimate_mean([row[metric] for row in rows])} for name, rows in runs.items()}
        drawn[metric] = dots(groups, metric, f"{metric.capitalize()} after the last task, by views and controls")
    return drawn
