"""InTAct: Interval-based Task Activation Consolidation for Continual Learning.

arXiv 2511.17439, 2025-11. Full scale in the paper: prompts for a ViT-B/16 on DomainNet and ImageNet-R. Here: (1) the
main use, a head on frozen features that were trained on plain and inverted digits, on five domains of the digits, with
L_int alone over λ; (2) a whole network on the parity of pairs of digits, with L_int alone and with all four losses.
Every rival is tuned as λ is. On random features, an earlier record, EWC and online EWC lie above the peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from letheon.papers.common.networks import seeded
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines
from letheon.retain.learn import learn
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.intact import InTAct
from letheon.retain.stream import Stream, task_of
from letheon.retain.streams.digits import rotated_digits, split_digits

HEAD: dict[str, Any] = {"epochs": 10, "batch_size": 64, "optimizer": "adam", "learning_rate": 3e-3}
WHOLE: dict[str, Any] = {"epochs": 10, "batch_size": 64, "optimizer": "adam", "learning_rate": 1e-3}
FEATURES = 200
STRENGTHS = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)
ONLY_DRIFT = "intact:strength={},variance=0,features=0,align=false"
Tried = Mapping[str, tuple[str, Sequence[float]]]  # arm -> its strategy, and the strengths that are tried
OURS = "drift alone"
RIVALS: Tried = {
    **{
        name: (f"ewc:strength={{}},online={form}", (0.3, 1.0, 3.0, 10.0, 30.0, 100.0))
        for name, form in (("ewc", "false"), ("online ewc", "true"))
    },
    "lwf": ("lwf:strength={}", (0.3, 1.0, 3.0, 10.0)),
}
ON_A_HEAD: Tried = {OURS: (ONLY_DRIFT, STRENGTHS[1:-1]), **RIVALS}
# Settings are chosen by average accuracy under seeds that are not reported.
TUNING_SEEDS = (1000, 1001, 1002, 1003)
# A rise of forgetting up to `NONE` does not count; over all strengths forgetting falls by more than half. "Not below"
# EWC allows for `MARGIN`: the paper compares with prompt methods and claims nothing against EWC on a head.
NONE, MARGIN = 0.01, 0.01
PARITY: Tried = {
    "ewc": ("ewc:strength={}", (3.0, 10.0, 30.0, 100.0)),
    OURS: (ONLY_DRIFT, (0.03, 0.1, 0.3, 1.0)),
    "all four losses": ("intact:strength={},variance=0.01,features=0.1", (0.03, 0.1, 0.3, 1.0)),
}

PRIMARY = (
    *(f"forgetting at {b:g} not above that at {a:g}" for a, b in pairwise(STRENGTHS)),
    "forgetting at the strongest minus half of that without a penalty",
    *(f"peak above {name}" for name in ("no penalty", "the strongest", "lwf")),
    *(f"peak not below {name}" for name in ("ewc", "online ewc")),
    "whole network: all four losses above naive",
    "whole network: all four losses not below ewc",
)

# A stream, the training options, and the network under a seed
Setting = tuple[Stream, Mapping[str, Any], Callable[[int], nn.Module]]


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure accuracy and forgetting over λ beside tuned rivals on the same head, and on a whole network."""
    head = (digit_domains(), HEAD, pretrained_features)
    whole = (split_digits(scenario="domain"), WHOLE, whole_network)  # is the digit of a pair odd?
    results, top = on_a_head(head, scale, found)
    strengths = tuned(PARITY, whole, found, "average accuracy of a whole network")
    chosen = {"naive": "naive", **{name: PARITY[name][0].format(strength) for name, strength in strengths.items()}}
    found.baselines += ["lambda 0 (naive)", *(f"{name} on the same head, tuned as lambda is" for name in RIVALS)]
    network = run_arms(lambda text, seed: measured(text, seed, whole), chosen, scale.seeds)
    found.measured["whole network"] = network.means()
    judge(results, top, network, found)
    found.figures |= figures(results)
    found.rows += Results({**results.arms, **{f"whole: {name}": rows for name, rows in network.arms.items()}}).rows()


def on_a_head(setting: Setting, scale: Scale, found: Findings) -> tuple[Results, str]:
    """Every λ and every tuned rival on a head, and the name of the λ with the best average accuracy while tuning.

    That λ is among `STRENGTHS`, or beyond them where the search went on.
    """
    chosen = tuned(ON_A_HEAD, setting, found, "average accuracy on a head")
    peak = chosen[OURS]
    strengths = {f"{one:g}": ONLY_DRIFT.format(one) if one else "naive" for one in (*STRENGTHS, peak)}
    rivals = {name: RIVALS[name][0].format(chosen[name]) for name in RIVALS}
    results = run_arms(lambda text, seed: measured(text, seed, setting), strengths | rivals, scale.seeds)
    found.measured |= {name if name in rivals else f"lambda {name}": one for name, one in results.means().items()}
    return results, f"{peak:g}"


def judge(results: Results, top: str, network: Results, found: Findings) -> None:
    """Decide whether forgetting falls over λ, where the peak `top` lies, and what all four losses give a network."""
    strengths, accuracy = [f"{strength:g}" for strength in STRENGTHS], "average accuracy"
    first, last = strengths[0], strengths[-1]
    for a, b in pairwise(strengths):
        results.decide(found, f"forgetting at {b} not above that at {a}", "forgetting", b, a, below=NONE)
    halves = [value / 2 for value in results.column(first, "forgetting")]
    name = "forgetting at the strongest minus half of that without a penalty"
    found.decide(name, Pairs(halves, results.column(last, "forgetting")), below=0.0)
    for other, name in ((first, "no penalty"), (last, "the strongest"), ("lwf", "lwf")):
        results.decide(found, f"peak above {name}", accuracy, top, other, above=0.0)
    for name in ("ewc", "online ewc"):
        results.decide(found, f"peak not below {name}", accuracy, top, name, above=-MARGIN)
        results.report(found, f"peak above {name}", accuracy, top, name, above=0.0)
    ours = "all four losses"
    network.decide(found, f"whole network: {ours} above naive", accuracy, ours, "naive", above=0.0)
    network.decide(found, f"whole network: {ours} not below ewc", accuracy, ours, "ewc", above=-MARGIN)


def tuned(tried: Tried, setting: Setting, found: Findings, by: str) -> dict[str, float]:
    """Each arm's strength with the highest average accuracy under the tuning seeds; the search is recorded."""

    def score(name: str, strength: float, seed: int) -> float:
        return float(measured(tried[name][0].format(strength), seed, setting)["average accuracy"])

    grids = {name: strengths for name, (_, strengths) in tried.items()}
    return choose(found, grids, score, TUNING_SEEDS, by=by)


def measured(text: str, seed: int, setting: Setting) -> dict[str, Any]:
    """Accuracy and forgetting of one run, and the mean width of InTAct's intervals."""
    stream, training, network = setting
    run = learn(network(seed), stream, text, seed=seed, **training)
    row: dict[str, Any] = {"seed": seed, **{name: run.metrics[name] for name in ("average accuracy", "forgetting")}}
    part = run.learner.strategy.find(InTAct)
    return row if part is None else row | {"cube width": sum(part.widths) / len(part.widths)}


def digit_domains() -> Stream:
    """Five tasks of all ten digits: plain, inverted, turned by 90 degrees, mirrored, with noise."""
    generator = torch.Generator().manual_seed(0)

    def square(images: Tensor) -> Tensor:
        return images.reshape(-1, 8, 8)

    changes: dict[str, Any] = {
        "plain": lambda images: images,
        "inverted": lambda images: 1 - images,
        "turned": lambda images: square(images).rot90(1, (1, 2)).flatten(1),
        "mirrored": lambda images: square(images).flip(2).flatten(1),
        "noisy": lambda images: images + 0.3 * torch.randn(images.shape, generator=generator),
    }
    (plain,) = rotated_digits((0.0,)).tasks
    assert isinstance(plain.train, TaskRows)
    assert isinstance(plain.test, TaskRows)
    tasks = [
        task_of(
            name, i, (change(plain.train.inputs), plain.train.targets), (change(plain.test.inputs), plain.test.targets)
        )
        for i, (name, change) in enumerate(changes.items())
    ]
    return Stream("digit-domains", tuple(tasks), "domain")


def frozen_features(seed: int) -> nn.Sequential:
    """Frozen random features with LeakyReLU, and a head that learns."""
    generator = torch.Generator().manual_seed(seed)
    body, head = seeded(lambda: (nn.Linear(64, FEATURES), nn.Linear(FEATURES, 10)), seed)
    nn.init.kaiming_normal_(body.weight, nonlinearity="leaky_relu", generator=generator)
    nn.init.zeros_(body.bias)
    body.requires_grad_(False)
    return nn.Sequential(body, nn.LeakyReLU(), head)


def pretrained_features(seed: int) -> nn.Sequential:
    """Frozen features of a network that was trained on plain and inverted digits, and a head that learns."""
    model = frozen_features(seed)
    model[0].requires_grad_(True)
    plain, inverted = list(digit_domains())[:2]
    rows = [torch.cat([getattr(task.train, name) for task in (plain, inverted)]) for name in ("inputs", "targets")]
    both = task_of("both", 0, (rows[0], rows[1]), (rows[0], rows[1]))
    learn(model, Stream("features", (both,), "domain"), "naive", seed=seed, **WHOLE)
    model[0].requires_grad_(False)
    model[2] = frozen_features(seed)[2]
    return model


def whole_network(seed: int) -> nn.Sequential:
    """Two hidden layers with LeakyReLU, trained as a whole."""

    def build() -> nn.Sequential:
        hidden = [nn.Linear(64, 100), nn.LeakyReLU(), nn.Linear(100, 100), nn.LeakyReLU()]
        return nn.Sequential(*hidden, nn.Linear(100, 2))

    return seeded(build, seed)


def figures(results: Results) -> dict[str, str]:
    """Average accuracy and forgetting over λ."""
    means = results.means(["average accuracy", "forgetting"])
    series = {
        metric: [(math.log10(strength), means[f"{strength:g}"][metric]) for strength in STRENGTHS if strength > 0]
        for metric in ("average accuracy", "forgetting")
    }
    words = "Average accuracy and forgetting over the strength of the drift loss, a head on five domains of the digits"
    return {"strength": lines(series, "log10 of lambda", "share", words)}
