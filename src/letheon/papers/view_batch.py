"""Do Your Best and Get Enough Rest for Continual Learning.

arXiv 2503.18371, 2025-03; CVPR 2025. Full scale in the paper: split CIFAR-10, iCaRL, a memory of 200 and a ResNet-18
that learns for 50 epochs per task. Here: split digits with replay, a memory of 100 and a small network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.outcome import Scale
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
# Options of `view_batch`, and epochs. One view is as strongly distorted as the others. Reshuffled rows rest for as many
# epochs as there are views on average, but sometimes for none and sometimes for many.
ARMS: dict[str, tuple[dict[str, Any] | None, int]] = {
    "plain replay": (None, EPOCHS),
    **{f"{views} views": ({"views": views}, EPOCHS) for views in VIEWS},
    "4 views, no divergence": ({"views": 4, "alpha": 0.0}, EPOCHS),
    RESHUFFLED: ({"views": 4, "reshuffle": True}, EPOCHS),
    FEWER: ({"views": 1}, EPOCHS // 4),
}
HOST = "replay:capacity=100,fill=task"
METRICS = ("average accuracy", "forgetting", "interval")
PRIMARY = (
    *(f"forgetting: {FOUR} below {other}" for other in (ONE, RESHUFFLED, FEWER)),
    "forgetting: 8 views above 4",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare one to eight views at equal steps, with controls for distortion, rest and steps."""
    found.baselines += ["replay", ONE, RESHUFFLED, FEWER]
    results = run_arms(lambda arm, seed: measured(*arm, seed), ARMS, scale.seeds)
    results.record(found, METRICS)
    judge(results, found)
    for views in VIEWS:
        apart = max(abs(interval - views) for interval in results.column(f"{views} views", "interval"))
        found.check(f"interval of {views} views is {views} epochs", apart < 1e-9)
    found.figures |= figures(results)


def judge(results: Results, found: Findings) -> None:
    """Decide on forgetting; report accuracies and steps."""
    for other in (ONE, RESHUFFLED, FEWER):
        results.decide(found, f"forgetting: {FOUR} below {other}", "forgetting", FOUR, other, below=0.0)
    results.decide(found, "forgetting: 8 views above 4", "forgetting", "8 views", FOUR, above=0.0)
    for other in ("plain replay", ONE, RESHUFFLED, "4 views, no divergence"):
        results.report(found, f"average accuracy: {FOUR} above {other}", "average accuracy", FOUR, other, above=0.0)
    results.report(found, "steps of 4 views are not more than of 1", "steps", FOUR, ONE, below=0.5)


def measured(options: Mapping[str, Any] | None, epochs: int, seed: int) -> dict[str, Any]:
    """Forgetting and accuracy of one run, and its mean recall interval in epochs (passes over the task's rows)."""
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


def figures(results: Results) -> dict[str, str]:
    """Forgetting and accuracy of every arm."""
    words = "{} after the last task, by views and controls"
    return {
        metric: dots(results.dots(metric), metric, words.format(metric.capitalize()))
        for metric in ("forgetting", "average accuracy")
    }
