"""UER: A Heuristic Bias Addressing Approach for Online Continual Learning.

arXiv 2309.04081, 2023-09; ACM MM 2023. Full scale in the paper: split CIFAR-10, CIFAR-100 and Mini-ImageNet with a
reduced ResNet-18. Here: split digits in one pass, a memory of 100, the four ways to form logits of new and old rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from letheon.core.statistics import estimate_mean
from letheon.papers.catalogue import Outcome, Scale, paper
from letheon.papers.common.figures import lines
from letheon.papers.common.networks import network, several
from letheon.papers.outcome import Claim, Findings, Judged, judge_pairs, means
from letheon.report.figures import dots
from letheon.retain.learn import learn
from letheon.retain.strategies.uer import BiasWatch
from letheon.retain.strategy import Composition, read_strategy
from letheon.retain.streams.digits import split_digits

# The framework's batches of 10 + 10 and rate of 0.1, one pass.
TRAINING: dict[str, Any] = {"epochs": 1, "batch_size": 10, "learning_rate": 0.1}
SIZES = [64, 100, 100, 10]
# Logits of the new rows / of the old rows. Experience replay is dot/dot.
ARMS = {
    "replay": "uer:capacity=100,current=dot,replay=dot",
    "uer": "uer:capacity=100",
    "cosine replay": "uer:capacity=100,current=cosine,replay=cosine",
    "reversed": "uer:capacity=100,current=dot,replay=cosine",
    "uer, tau 1": "uer:capacity=100,tau=1.0",
}
EACH = 3  # runs a seed: one run says little, its standard deviation is about 0.1
GAPS = ("logit gap", "cosine gap", "weight norm gap")

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def reproduce(scale: Scale) -> Outcome:
    """The 2 x 2 table of current and replayed logits, and where the bias towards the newest classes sits."""

    baselines = ["experience replay", "the other two ways to form logits", "UER without a temperature"]
    claim = Claim("uer", paper("uer").claim, baselines)
    seeds = several(scale.seeds, EACH)
    runs = {name: [measured(text, seed) for seed in seeds] for name, text in ARMS.items()}
    found = Findings.by_arm({name: means(rows) for name, rows in runs.items()}, *judge(runs))
    rows = [{"arm": name, **row} for name, rows in runs.items() for row in rows]
    return claim.outcome(found, seeds, figures(runs), rows)


def judge(runs: Rows) -> tuple[dict[str, Judged], dict[str, Judged]]:
    """The claim's parts, and what the note asks to be said beside them; all paired over seeds."""

    def against(other: str, metric: str) -> Judged:
        columns = [[row[metric] for row in runs[name]] for name in (other, "uer")]
        return judge_pairs(columns[0], columns[1], 0.0, "below" if "gap" in metric else "above")

    judged = {f"{metric}: uer minus replay": against("replay", metric) for metric in ("average", "old tasks")}
    beside = {f"{gap}: uer below replay": against("replay", gap) for gap in GAPS}
    beside["newest task: uer above replay"] = against("replay", "newest task")
    for other in ("cosine replay", "reversed", "uer, tau 1"):
        beside[f"average: uer above {other}"] = against(other, "average")
    return judged, beside


def measured(text: str, seed: int) -> dict[str, Any]:
    """One arm, one seed: accuracies after the last task, and the bias of the logits after each."""

    watch = BiasWatch()
    run = learn(network(SIZES, seed), split_digits(), _watched(text, watch), seed=seed, **TRAINING)
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


def _watched(text: str, watch: Any) -> Composition:

    return Composition([*read_strategy(text).parts, watch], text)


def figures(runs: Rows) -> dict[str, str]:
    """The logits' bias over tasks, and accuracies of the four ways."""

    def gaps(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
        columns = zip(*(row["logit gaps"] for row in rows), strict=True)
        return [(number, sum(column) / len(column)) for number, column in enumerate(columns, start=2)]

    groups = {
        metric: {name: estimate_mean([row[metric] for row in rows]) for name, rows in runs.items()}
        for metric in ("old tasks", "newest task")
    }
    bias = "Mean logit of the newest classes minus that of old ones, after each task"
    return {
        "bias": lines({name: gaps(rows) for name, rows in runs.items()}, "task", "logit gap", bias),
        "accuracies": dots(groups, "accuracy", "Accuracy after the last task on old and newest tasks"),
    }
