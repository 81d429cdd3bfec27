"""InTAct: Interval-based Task Activation Consolidation for Continual Learning.

arXiv 2511.17439, 2025-11. Full scale in the paper: prompts for a ViT-B/16 on DomainNet and ImageNet-R. Here: (1) the
main use, a head on frozen features, on five domains of the digits, with L_int alone over λ; (2) a whole network on the
parity of pairs of digits, with L_int alone and with all four losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from letheon.papers.common.networks import seeded
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.outcome import Scale
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
EWC = {
    name: [f"ewc:strength={strength},online={form}" for strength in (1.0, 3.0, 10.0, 30.0)]
    for name, form in (("ewc", "false"), ("online ewc", "true"))
}
# Settings are chosen by average accuracy under seeds that are not reported.
TUNING_SEEDS = (1000, 1001)
# A rise of forgetting up to `NONE` does not count; over all strengths forgetting falls by more than `FALL`.
NONE, FALL = 0.01, 0.2
PARITY = {
    "naive": ["naive"],
    "ewc": [f"ewc:strength={strength}" for strength in (10.0, 100.0)],
    "drift alone": [ONLY_DRIFT.format(strength) for strength in (0.1, 1.0)],
    "all four losses": [f"intact:strength={strength},variance=0.01,features=0.1" for strength in (0.1, 1.0)],
}

# A stream, the training options, and the network under a seed
Setting = tuple[Stream, Mapping[str, Any], Callable[[int], nn.Module]]
# arm -> its name in the part that compares it with the peak
PEAK_ABOVE = {f"{STRENGTHS[0]:g}": "no penalty", f"{STRENGTHS[-1]:g}": "the strongest", **{name: name for name in EWC}}
PRIMARY = (
    *(f"forgetting at {b:g} not above that at {a:g}" for a, b in pairwise(STRENGTHS)),
    "forgetting falls from the first to the last",
    *(f"peak above {name}" for name in PEAK_ABOVE.values()),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure accuracy and forgetting over λ beside a tuned EWC on the same head, and on a whole network."""
    head = (digit_domains(), HEAD, frozen_features)
    whole = (split_digits(scenario="domain"), WHOLE, whole_network)  # is the digit of a pair odd?
    strengths = {f"{strength:g}": ONLY_DRIFT.format(strength) if strength else "naive" for strength in STRENGTHS}
    peak = best(list(strengths.values())[1:-1], head)
    top = next(name for name, text in strengths.items() if text == peak)
    rivals = {name: best(texts, head) for name, texts in EWC.items()}
    chosen = {name: best(texts, whole) for name, texts in PARITY.items()}
    found.baselines += ["lambda 0 (naive)"]
    found.baselines += [f"{text} on the same head, tuned as lambda was" for text in rivals.values()]
    results = run_arms(lambda text, seed: measured(text, seed, head), strengths | rivals, scale.seeds)
    network = run_arms(lambda text, seed: measured(text, seed, whole), chosen, scale.seeds)
    found.measured |= {name if name in rivals else f"lambda {name}": one for name, one in results.means().items()}
    found.measured |= {
        "lambda of the peak, tuned on other seeds": top,
        "whole network": network.means(),
        "chosen": chosen,
    }
    judge(results, top, found)
    found.figures |= figures(results)
    found.rows += Results({**results.arms, **network.arms}).rows()


def judge(results: Results, top: str, found: Findings) -> None:
    """Decide whether forgetting falls over λ, and whether accuracy at the peak `top` exceeds the ends and EWC."""
    strengths = [f"{strength:g}" for strength in STRENGTHS]
    first, last = strengths[0], strengths[-1]
    for a, b in pairwise(strengths):
        results.decide(found, f"forgetting at {b} not above that at {a}", "forgetting", b, a, below=NONE)
    results.decide(found, "forgetting falls from the first to the last", "forgetting", first, last, above=FALL)
    for other in PEAK_ABOVE:
        results.decide(found, f"peak above {PEAK_ABOVE[other]}", "average accuracy", top, other, above=0.0)


def best(texts: Sequence[str], setting: Setting) -> str:
    """The strategy with the highest average accuracy under the tuning seeds."""

    def score(text: str) -> float:
        return sum(measured(text, seed, setting)["average accuracy"] for seed in TUNING_SEEDS)

    return texts[0] if len(texts) == 1 else max(texts, key=score)


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
