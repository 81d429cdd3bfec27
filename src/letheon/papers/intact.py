"""InTAct: Interval-based Task Activation Consolidation for Continual Learning.

arXiv 2511.17439, 2025-11. Full scale in the paper: prompts for a ViT-B/16 on DomainNet and ImageNet-R. Here: (1) its
main use, a head on frozen features, on five domains of the digits, L_int alone over λ; (2) a whole network on the
parity of pairs of digits, with L_int alone and with all four losses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from letheon.papers.catalogue import Outcome, Scale, paper
from letheon.papers.common.figures import lines
from letheon.papers.outcome import Claim, Findings, Judged, judge_pairs, judge_values, means
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
# A rise of forgetting by less than this is none; over all strengths it falls by more than `FALL`.
NONE, FALL = 0.01, 0.2
PARITY = {
    "naive": ["naive"],
    "ewc": [f"ewc:strength={strength}" for strength in (10.0, 100.0)],
    "drift alone": [ONLY_DRIFT.format(strength) for strength in (0.1, 1.0)],
    "all four losses": [f"intact:strength={strength},variance=0.01,features=0.1" for strength in (0.1, 1.0)],
}

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def reproduce(scale: Scale) -> Outcome:
    """Average accuracy and forgetting over λ, beside a tuned EWC on the same head; and a whole network."""
    claim = Claim("intact", paper("intact").claim, ["lambda 0 (naive)"])
    domains, parity = digit_domains(), digit_parity()
    strengths = {strength: "naive" if not strength else ONLY_DRIFT.format(strength) for strength in STRENGTHS}
    peak = best([strengths[strength] for strength in STRENGTHS[1:-1]], domains, HEAD, frozen_features)
    rivals = {name: best(texts, domains, HEAD, frozen_features) for name, texts in EWC.items()}
    claim.baselines += [f"{text} on the same head, tuned as lambda was" for text in rivals.values()]
    arms = {f"{strength:g}": text for strength, text in strengths.items()} | rivals
    runs = {
        name: [measured(text, domains, HEAD, frozen_features, seed) for seed in scale.seeds]
        for name, text in arms.items()
    }
    top = next(name for name, text in arms.items() if text == peak)
    chosen = {name: best(texts, parity, WHOLE, whole_network) for name, texts in PARITY.items()}
    whole = {
        name: [measured(text, parity, WHOLE, whole_network, seed) for seed in scale.seeds]
        for name, text in chosen.items()
    }
    told = {
        **{name if name in rivals else f"lambda {name}": means(rows) for name, rows in runs.items()},
        "lambda of the peak, tuned on other seeds": top,
        "whole network": {name: means(rows) for name, rows in whole.items()},
        "chosen": chosen,
    }
    rows = [{"arm": name, **row} for name, rows in (runs | whole).items() for row in rows]
    return claim.outcome(Findings.by_arm(told, judge(runs, top)), scale.seeds, figures(runs), rows)


def judge(runs: Runs, top: str) -> dict[str, Judged]:
    """The parts of the claim, paired over seeds; `top` is the strength that was chosen for the peak."""

    def column(name: str, metric: str) -> list[float]:
        return [row[metric] for row in runs[name]]

    strengths = [f"{strength:g}" for strength in STRENGTHS]
    first, last = strengths[0], strengths[-1]
    found = {
        f"forgetting at {b} not above that at {a}": judge_pairs(
            column(a, "forgetting"), column(b, "forgetting"), NONE, "below"
        )
        for a, b in pairwise(strengths)
    }
    fall = [a - b for a, b in zip(column(first, "forgetting"), column(last, "forgetting"), strict=True)]
    found["forgetting falls from the first to the last"] = judge_values(fall, FALL, "above")
    for other in (first, last, *EWC):
        pair = column(other, "average accuracy"), column(top, "average accuracy")
        found[f"peak ({top}) above {other}"] = judge_pairs(*pair, 0.0, "above")
    return found


def best(texts: Sequence[str], stream: Stream, training: Mapping[str, Any], model: Any) -> str:
    """The setting with the highest average accuracy under the tuning seeds."""

    def score(text: str) -> float:
        return sum(measured(text, stream, training, model, seed)["average accuracy"] for seed in TUNING_SEEDS)

    return texts[0] if len(texts) == 1 else max(texts, key=score)


def measured(text: str, stream: Stream, training: Mapping[str, Any], model: Any, seed: int) -> dict[str, Any]:
    """One strategy, one seed."""

    run = learn(model(seed), stream, text, seed=seed, **training)
    found: dict[str, Any] = {"seed": seed, **{name: run.metrics[name] for name in ("average accuracy", "forgetting")}}
    part = run.learner.strategy.find(InTAct)
    return found if part is None else found | {"cube width": sum(part.widths) / len(part.widths)}


def digit_domains() -> Stream:
    """Five tasks of all ten digits: as they are, inverted, turned by 90 degrees, mirrored, with noise."""

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


def digit_parity() -> Stream:
    """Five pairs of digits, each with the question whether the digit is odd."""

    return split_digits(scenario="domain")


def frozen_features(seed: int) -> nn.Sequential:
    """Random features that stay as they are (LeakyReLU), and a head that learns."""

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body, head = nn.Linear(64, FEATURES), nn.Linear(FEATURES, 10)
    nn.init.kaiming_normal_(body.weight, nonlinearity="leaky_relu", generator=generator)
    nn.init.zeros_(body.bias)
    body.requires_grad_(False)
    return nn.Sequential(body, nn.LeakyReLU(), head)


def whole_network(seed: int) -> nn.Sequential:
    """Two hidden layers with LeakyReLU, all of it learns."""

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 100), nn.LeakyReLU(), nn.Linear(100, 100), nn.LeakyReLU(), nn.Linear(100, 2))


def figures(runs: Runs) -> dict[str, str]:
    """Average accuracy and forgetting over λ."""

    series = {
        metric: [(math.log10(strength), means(runs[f"{strength:g}"])[metric]) for strength in STRENGTHS if strength > 0]
        for metric in ("average accuracy", "forgetting")
    }
    words = "Average accuracy and forgetting over the strength of the drift loss, a head on five domains of the digits"
    return {"strength": lines(series, "log10 of lambda", "share", words)}
