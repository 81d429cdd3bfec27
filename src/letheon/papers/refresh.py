"""A Unified and General Framework for Continual Learning.

arXiv 2403.13249, 2024-03; ICLR 2024. Full scale in the paper: split CIFAR-10, CIFAR-100 and Tiny-ImageNet with a
ResNet-18. Here: the special cases of the objective on random data, and DER++ on split digits with and without refresh
learning, in the paper's form and in that of its code, each at the step size with the best average accuracy under seeds
that are not judged; all arms have the same weight decay. The paper's form is tried with and without the noise of its
equation; its best step without the noise is reported beside, because noise in the weights alone can help.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.retain.classes import ClassLearner
from letheon.retain.learn import learn
from letheon.retain.models import mlp
from letheon.retain.row_gradients import flat
from letheon.retain.rows import joined
from letheon.retain.strategies import bregman as form
from letheon.retain.strategies.der import der_loss
from letheon.retain.streams.digits import split_digits

TRAINING: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 0.05, "weight_decay": 1e-4}
HOST = "der:capacity=100"  # DER++ with alpha 0.1, beta 0.5; stores logits as they are when a row arrives
PLAIN = "no refresh"
ARMS = {
    PLAIN: HOST,
    "code's form, 0.001": f"{HOST}+refresh_release:size=0.001",
    "paper's form, 0.02": f"{HOST}+refresh:rate=0.02",
    "paper's form, 0.02, three steps": f"{HOST}+refresh:rate=0.02,steps=3",
    # with the noise of the paper's equation, at a rate at which training survives it
    "paper's form, 0.0001, its noise": f"{HOST}+refresh:rate=0.0001,noise=1.0",
}
Setting = tuple[str, float]  # the strategy up to its step size, and the step size
PLAINLY: list[Setting] = [("refresh:rate=", rate) for rate in (1e-4, 1e-3, 0.005, 0.02)]
NOISILY: list[Setting] = [("refresh:noise=1.0,rate=", rate) for rate in (1e-5, 1e-4, 3e-4, 1e-3)]
TRIED: dict[str, list[Setting]] = {
    "code's form": [("refresh_release:size=", size) for size in (1e-5, 1e-4, 3e-4, 1e-3)],
    "paper's form": [*PLAINLY, *NOISILY],
    "paper's form without noise": PLAINLY,
}
TUNING_SEEDS = tuple(range(1000, 1005))
EXACT = 1e-6
METRICS = ("average accuracy", "forgetting", "sharpness")
PRIMARY = tuple(f"{name}, tuned: average accuracy above no refresh" for name in ("code's form", "paper's form"))


def reproduce(scale: Scale, found: Findings) -> None:
    """Check the special cases against their direct formulas; measure what refresh does to accuracy and sharpness."""
    found.baselines += ["the direct formulas", "DER++ without refresh"]
    cases = {name: max(difference(case, seed) for seed in scale.seeds) for name, case in special_cases().items()}
    found.measured["largest difference of loss or gradient"] = cases
    for name, worst in cases.items():
        found.check(f"{name} equals its formula", worst < EXACT)
    results = run_arms(measured, ARMS | tuned(found), scale.seeds)
    results.record(found, METRICS)
    report_effects(results, found)
    found.figures |= figures(results)


# The special cases


class Case(NamedTuple):
    """One row of the paper's table: a loss in both formulations, and random points to compare them at."""

    draw: Callable[[int], tuple[Tensor, Tensor, Tensor]]
    general: Callable[[Tensor, Tensor, Tensor], Tensor]
    direct: Callable[[Tensor, Tensor, Tensor], Tensor]


def special_cases() -> dict[str, Case]:
    """ER, DER, LwF, CPR, EWC and VCL as divergences, beside the formulas of this library or of torch."""
    n, classes = 6, 5

    def outputs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        made = [torch.randn(n, classes, generator=draw, dtype=torch.float64) for _ in range(2)]
        return made[0], made[1], torch.randint(classes, (n,), generator=draw)

    def weights(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        now, old, _ = outputs(seed)
        return now, old, now.square() + old.square() + 0.1  # the Fisher information, or a scale

    def from_label(now: Tensor, _: Tensor, labels: Tensor) -> Tensor:
        target = functional.one_hot(labels, classes).double()
        return form.bregman(form.negative_entropy, target, now.softmax(1)) / n

    def posteriors(now: Tensor, old: Tensor, scale: Tensor) -> Tensor:
        natural = [torch.stack([(mean / scale).flatten(), (-0.5 / scale).flatten()]) for mean in (now, old)]
        return form.bregman(form.gaussian_log_partition, natural[1], natural[0])

    uniform = torch.full((n, classes), 1 / classes, dtype=torch.float64)
    return {
        "ER": Case(outputs, from_label, lambda now, _, labels: functional.cross_entropy(now, labels)),
        "DER": Case(
            outputs,
            lambda now, old, _: form.bregman(form.squared_norm, now, old) / now.numel(),
            lambda now, old, _: der_loss(now, old),
        ),
        "LwF": Case(
            outputs,
            lambda now, old, _: form.bregman(form.negative_entropy, old.softmax(1), now.softmax(1)) / n,
            lambda now, old, _: functional.kl_div(now.log_softmax(1), old.softmax(1), reduction="batchmean"),
        ),
        "CPR": Case(
            outputs,
            lambda now, _, __: form.bregman(form.negative_entropy, now.softmax(1), uniform) / n,
            lambda now, _, __: math.log(classes) + (now.softmax(1) * now.log_softmax(1)).sum(1).mean(),
        ),
        "EWC": Case(
            weights,
            lambda now, old, fisher: form.bregman(form.quadratic(fisher), now, old),
            lambda now, old, fisher: 0.5 * (fisher * (now - old).square()).sum(),
        ),
        "VCL": Case(
            weights,
            posteriors,
            lambda now, old, scale: kl_divergence(Normal(now, scale.sqrt()), Normal(old, scale.sqrt())).sum(),
        ),
    }


def difference(case: Case, seed: int) -> float:
    """The largest difference between both formulations, of the loss and of any entry of its gradient."""
    now, old, other = case.draw(seed)
    now.requires_grad_()
    losses = [formula(now, old, other) for formula in (case.general, case.direct)]
    gradients = [torch.autograd.grad(loss, now)[0] for loss in losses]
    apart = (gradients[0] - gradients[1]).abs().max()
    return max(float(apart), float((losses[0] - losses[1]).detach().abs()))


# Refresh learning


def tuned(found: Findings) -> dict[str, str]:
    """Each form's strategy with the step size of the best average accuracy under the tuning seeds."""

    @cache  # two of the forms share their settings without noise
    def score(setting: Setting, seed: int) -> float:
        return float(measured(strategy_of(setting), seed, sharp=False)["average accuracy"])

    settings = choose(found, TRIED, lambda _, setting, seed: score(setting, seed), TUNING_SEEDS)
    return {f"{name}, tuned": strategy_of(setting) for name, setting in settings.items()}


def strategy_of(setting: Setting) -> str:
    """The strategy with one of the tried settings."""
    refresh, size = setting
    return f"{HOST}+{refresh}{size}"


def measured(text: str, seed: int, sharp: bool = True) -> dict[str, Any]:
    """Accuracy and forgetting of one run after the last task, and the sharpness of its minimum where asked for."""
    run = learn(mlp([64, 100, 100, 10], seed), split_digits(), text, seed=seed, **TRAINING)
    return {
        "seed": seed,
        "average accuracy": run.metrics["average accuracy"],
        "forgetting": run.metrics["forgetting"],
        "sharpness": sharpness(run.learner) if sharp else 0.0,
    }


def sharpness(learner: ClassLearner, rounds: int = 30) -> float:
    """The largest eigenvalue (in magnitude) of the Hessian of all tasks' mean training loss, by power iteration."""
    rows = joined([learner.train_rows(task) for task in learner.stream])
    loss = learner.loss(learner.forward(rows), rows)
    gradient = flat(torch.autograd.grad(loss, learner.weights, create_graph=True))
    vector = torch.randn(len(gradient), generator=torch.Generator().manual_seed(0))
    value = 0.0
    for _ in range(rounds):
        vector = vector / vector.norm()
        product = flat(torch.autograd.grad(gradient @ vector, learner.weights, retain_graph=True))
        value, vector = float(vector @ product), product
    return value


def report_effects(results: Results, found: Findings) -> None:
    """Decide on the accuracy of both forms at their tuned step sizes; report accuracy and sharpness of every arm."""
    for name in results.arms:
        if name != PLAIN:
            accuracy, sharpness = f"{name}: average accuracy above no refresh", f"{name}: sharpness below no refresh"
            judge = results.decide if accuracy in PRIMARY else results.report
            judge(found, accuracy, "average accuracy", name, PLAIN, above=0.0)
            results.report(found, sharpness, "sharpness", name, PLAIN, below=0.0)


def figures(results: Results) -> dict[str, str]:
    """Accuracy and sharpness of every arm."""
    words = {"average accuracy": "Average accuracy", "sharpness": "Largest eigenvalue of the Hessian"}
    return {
        metric: dots(results.dots(metric), metric, f"{word} after the last task, with and without refresh")
        for metric, word in words.items()
    }
