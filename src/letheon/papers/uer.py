"""UER: A Heuristic Bias Addressing Approach for Online Continual Learning.

arXiv 2309.04081, 2023-09; ACM MM 2023. Full scale in the paper: split CIFAR-10, CIFAR-100 and Mini-ImageNet with a
reduced ResNet-18. Here: split digits in one pass, a memory of 100, and the four combinations of dot-product and cosine
logits for new and replayed rows, each at the rate with the best average accuracy under seeds that are not judged.
"""

from __future__ import annotations

from typing import Any

from letheon.papers.common.networks import network, several
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.report.plots import lines
from letheon.retain.composition import Composition, read_strategy
from letheon.retain.learn import learn
from letheon.retain.strategies.uer import BiasWatch
from letheon.retain.streams.digits import split_digits

# The authors' framework trains in one pass with batches of 10 new and 10 replayed rows (at a rate of 0.1).
TRAINING: dict[str, Any] = {"epochs": 1, "batch_size": 10}
RATES = (0.02, 0.05, 0.1, 0.2)
TUNING_SEEDS = tuple(range(1000, 1008))
SIZES = [64, 100, 100, 10]
# Logits of the new rows (current) and of the replayed rows. Experience replay is dot/dot.
ARMS = {
    "replay": "uer:capacity=100,current=dot,replay=dot",
    "uer": "uer:capacity=100",
    "cosine replay": "uer:capacity=100,current=cosine,replay=cosine",
    "reversed": "uer:capacity=100,current=dot,replay=cosine",
    "uer, tau 1": "uer:capacity=100,tau=1.0",
}
EACH = 2  # runs per seed; the standard deviation of a single run is about 0.1
GAPS = ("logit gap", "cosine gap", "weight norm gap")
PRIMARY = ("average: uer minus replay", "old tasks: uer minus replay", "logit gap: uer below replay")

Arm = tuple[str, float]  # strategy, learning rate


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare the 2 x 2 combinations of current and replayed logits, and locate the bias towards the newest classes."""
    found.baselines += ["experience replay", "the other two ways to form logits", "UER without a temperature"]
    found.seeds = several(scale.seeds, EACH)
    results = run_arms(measured, tuned(found), found.seeds)
    results.record(found)
    judge(results, found)
    found.figures |= figures(results)


def judge(results: Results, found: Findings) -> None:
    """Decide on average accuracy, old tasks and the logits' bias; report where it sits, and the other ways."""
    for metric in ("average", "old tasks"):
        results.decide(found, f"{metric}: uer minus replay", metric, "uer", "replay", above=0.0)
    results.decide(found, PRIMARY[2], GAPS[0], "uer", "replay", below=0.0)
    for gap in GAPS[1:]:
        results.report(found, f"{gap}: uer below replay", gap, "uer", "replay", below=0.0)
    results.report(found, "newest task: uer above replay", "newest task", "uer", "replay", above=0.0)
    for other in ("cosine replay", "reversed", "uer, tau 1"):
        results.report(found, f"average: uer above {other}", "average", "uer", other, above=0.0)


def tuned(found: Findings) -> dict[str, Arm]:
    """Each arm with the rate of its best average accuracy under the tuning seeds."""

    def score(name: str, rate: float, seed: int) -> float:
        return float(measured((ARMS[name], rate), seed)["average"])

    rates = choose(found, dict.fromkeys(ARMS, RATES), score, TUNING_SEEDS)
    return {name: (text, rates[name]) for name, text in ARMS.items()}


def measured(arm: Arm, seed: int) -> dict[str, Any]:
    """Accuracies of one run after the last task, and the bias of its logits after each task."""
    text, rate = arm
    watch = BiasWatch()
    strategy = Composition([*read_strategy(text).parts, watch], text)
    run = learn(network(SIZES, seed), split_digits(), strategy, seed=seed, learning_rate=rate, **TRAINING)
    final, last = run.matrix[-1], watch.reports[-1]
    return {
        "seed": seed,
        "average": float(final.mean()),
        "old tasks": float(final[:-1].mean()),
        "newest task": float(final[-1]),
        "forgetting": run.metrics["forgetting"],
        **dict(zip(GAPS, (last.dot.gap, last.cosine.gap, last.weight_norm.gap), strict=True)),
        "old tasks, by cosines": last.cosine_accuracy.old,
        "newest task, by cosines": last.cosine_accuracy.newest,
        "logit gaps": [report.dot.gap for report in watch.reports],
    }


def figures(results: Results) -> dict[str, str]:
    """The logits' bias over tasks, and the accuracies of every arm."""
    bias = "Mean logit of the newest classes minus that of old ones, after each task"
    accuracies = {metric: results.estimates(metric) for metric in ("old tasks", "newest task")}
    return {
        "bias": lines(results.course("logit gaps", start=2), "task", "logit gap", bias),
        "accuracies": dots(accuracies, "accuracy", "Accuracy after the last task on old and newest tasks"),
    }
