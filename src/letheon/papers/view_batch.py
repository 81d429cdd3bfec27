"""Do Your Best and Get Enough Rest for Continual Learning.

arXiv 2503.18371, 2025-03; CVPR 2025. Full scale in the paper: split CIFAR-10, iCaRL, a memory of 200 and a ResNet-18
that learns for 50 epochs per task. Here: split digits and iCaRL, whose 100 exemplars are in the sampler with the new
rows, so that old rows have views and rests as well; a perceptron with batch normalisation that learns for 64 epochs per
task, at the full scale a convolutional network. Every seed has a split of its own. Every arm has the same steps and
rows per step, and its own rate: the best for average accuracy under seeds that are not judged. Who learns less has less
to forget; so accuracy decides beside forgetting, and no arm may gain by a lower peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from letheon.papers.common.networks import network
from letheon.papers.fpf import SIZES, convolutional_of
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.retain.composition import Composition
from letheon.retain.learn import learn
from letheon.retain.strategies.icarl import ICaRL
from letheon.retain.strategies.view_batch import RecallWatch, Settings, ViewBatch
from letheon.retain.streams.digits import split_digits

EPOCHS, CAPACITY = 64, 100  # epochs are a multiple of every number of views
TRAINING: dict[str, Any] = {"batch_size": 64}
RATES = (0.05, 0.1, 0.2)
ONE, FOUR, MANY, RESHUFFLED = "1 view", "4 views", "16 views", "4 views, reshuffled"
WEAK, PLAIN = "1 view, weak", "4 views, no divergence"
# Options of `view_batch`. One view is as strongly distorted as the others. Reshuffled rows rest for as many epochs as
# there are views on average, but sometimes for none and sometimes for many. Sixteen views leave four visits of a row,
# fewer than the five below which the paper's effect turns round.
ARMS: dict[str, dict[str, Any]] = {
    WEAK: {"views": 1, "strong": False},
    ONE: {"views": 1},
    FOUR: {"views": 4},
    PLAIN: {"views": 4, "alpha": 0.0},
    RESHUFFLED: {"views": 4, "reshuffle": True},
    MANY: {"views": 16},
}
METRICS = ("average accuracy", "forgetting", "peak accuracy", "interval", "interval of old rows")
LOWER = 0.02  # how much lower the peak of four views may be
PRIMARY = (
    *(f"average accuracy: {FOUR} above {other}" for other in (ONE, RESHUFFLED, MANY)),
    *(f"forgetting: {FOUR} below {other}" for other in (ONE, RESHUFFLED, MANY)),
    f"peak accuracy: {FOUR} not below {ONE}",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare one to sixteen views at equal steps, with controls for distortion, rest and divergence."""
    found.baselines += ["iCaRL with one weak view", "with one strong view", "with views and no steady rest"]
    wide = scale.name == "full"

    def score(name: str, rate: float, seed: int) -> float:
        return float(measured(ARMS[name], rate, seed, wide)["average accuracy"])

    rates = choose(found, dict.fromkeys(ARMS, RATES), score)
    runs = {name: (options, rates[name]) for name, options in ARMS.items()}
    results = run_arms(lambda run, seed: measured(*run, seed, wide), runs, scale.seeds)
    results.record(found, METRICS)
    judge(results, found)
    found.figures |= figures(results)


def judge(results: Results, found: Findings) -> None:
    """Decide on accuracy and forgetting against one view, irregular rests and too many views; check the intervals."""
    for other in (ONE, RESHUFFLED, MANY):
        metric = "average accuracy"
        results.decide(found, f"{metric}: {FOUR} above {other}", metric, FOUR, other, above=0.0)
        results.decide(found, f"forgetting: {FOUR} below {other}", "forgetting", FOUR, other, below=0.0)
    results.decide(found, PRIMARY[-1], "peak accuracy", FOUR, ONE, above=-LOWER)
    for other in (WEAK, PLAIN):
        results.report(found, f"average accuracy: {FOUR} above {other}", "average accuracy", FOUR, other, above=0.0)
        results.report(found, f"forgetting: {FOUR} below {other}", "forgetting", FOUR, other, below=0.0)
    for name in (ONE, FOUR, MANY):
        views = ARMS[name]["views"]
        apart = max(abs(interval - views) for interval in results.column(name, "interval"))
        found.check(f"interval of {name} is {views} epochs", apart < 1e-9)
    by_seed = zip(*(results.column(name, "steps") for name in ARMS), strict=True)  # a seed's split decides how many
    found.check("equal steps", all(len(set(steps)) == 1 for steps in by_seed))


def measured(
    options: Mapping[str, Any], rate: float, seed: int, wide: bool = False, epochs: int = EPOCHS
) -> dict[str, Any]:
    """Forgetting and accuracies of one run, and its mean recall intervals in epochs (passes over all rows)."""
    settings = Settings(**options)
    watch = RecallWatch(settings.views)
    parts = [ViewBatch(settings), ICaRL(ICaRL.Settings(capacity=CAPACITY)), watch]
    model = convolutional_of(seed) if wide else network(SIZES, seed, batch_norm=True)
    composed, training = Composition(parts, "view_batch+icarl"), TRAINING | {"epochs": epochs}
    result = learn(model, split_digits(seed=seed), composed, seed=seed, learning_rate=rate, **training)
    learned = [float(result.matrix[i + 1, i]) for i in range(len(result.tasks))]
    return {
        "seed": seed,
        "average accuracy": result.metrics["average accuracy"],
        "forgetting": result.metrics["forgetting"],
        "peak accuracy": sum(learned) / len(learned),
        "interval": float(watch.intervals().mean()),
        "interval of old rows": float(watch.intervals(old=True).mean()),
        "steps": result.steps,
    }


def figures(results: Results) -> dict[str, str]:
    """Forgetting and accuracy of every arm."""
    words = "{} after the last task, by views and controls"
    return {
        metric: dots(results.dots(metric), metric, words.format(metric.capitalize()))
        for metric in ("forgetting", "average accuracy")
    }
