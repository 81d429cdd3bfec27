"""Gated-SwinRMT: Unifying Swin Windowed Attention with Retentive Manhattan Decay via Input-Dependent Gating.

arXiv 2604.06014, 2026-04.

Measured here: two stages of two blocks, 0.22 million parameters, on images that need local patterns: on 16 x 16 noisy
pixels lies one of eight motifs, anywhere, among others that belong to no class. Every step has fresh images, the same
for all arms, so that nobody can learn them by heart, and 2,000 test. All models have the same steps, the same number of
parameters by the width of their feed-forwards, and each its own rate, from seeds that are not judged (an earlier record
chose among two, on one seed). Full scale in the paper: 77 to 79 million parameters on Mini-ImageNet and CIFAR-10; on
the former it reports 80.22 (SWAT) and 78.20 (Retention) against 73.74 for RMT, single runs. Nothing as large was run
here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from letheon.attend.gated_swinrmt import SIZES, GatedSwinRMT, Settings, gate_maps, log_decay
from letheon.papers.common.classify import accuracy, fit
from letheon.papers.common.networks import seeded
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

# Motifs: POINTS bright pixels of a square of BOX x BOX, on images of SIDE x SIDE, with distractors alike and noise.
CLASSES, SIDE, BOX, POINTS, DISTRACTORS, NOISE = 8, 16, 5, 5, 2, 0.1
TESTED = 2000
STRIDE, WINDOW = 2, 4  # the first feature map is 8 x 8
BATCH, WEIGHT_DECAY = 32, 0.05
RATES = (1.5e-3, 3e-3, 6e-3)  # to choose from
STEPS = {"fast": 200, "full": 2000}
# Each claimed difference: the second arm's accuracy is above the first's.
PAIRS = {
    "retention minus RMT": ("rmt", "retention"),
    "SWAT minus RMT": ("rmt", "swat"),
    "retention minus no gate": ("retention, no gate", "retention"),
    "SWAT minus no gate": ("swat, no gate", "swat"),
}
PRIMARY = tuple(PAIRS)
# What else the blocks have, without a part in the claim.
BESIDE = {
    "retention minus no decay": ("retention, no decay", "retention"),
    "SWAT minus no slopes": ("SWAT, no slopes", "swat"),
}


def reproduce(scale: Scale, found: Findings) -> None:
    """Train every arm under every seed: about 10 s each on one core, seven arms per seed."""
    found.baselines += ["RMT at equal parameters", "the same blocks without a gate"]
    steps = STEPS[scale.name]

    def score(arm: str, rate: float, seed: int) -> float:
        return float(measured(arm, rate, seed, steps, scale.device)["accuracy"])

    rates = choose(found, dict.fromkeys(arms(), RATES), score)
    chosen = {name: (name, rate) for name, rate in rates.items()}
    results = run_arms(
        lambda run, seed: {"seed": seed, **measured(*run, seed, steps, scale.device)}, chosen, scale.seeds
    )
    judge(results, found)
    found.figures["decay"] = decay_figure()
    found.rows += results.rows()


def arms() -> dict[str, Settings]:
    """The settings of each arm; arms without a gate have wider feed-forwards, so that parameters are equal."""
    gated = Settings(
        dims=(32, 64),
        depths=(2, 2),
        heads=(2, 4),
        mlp_ratios=(2.0, 2.0),
        window=WINDOW,
        full=(False, False),
        decay=((2.0, 4.0), (2.0, 4.0)),
        layer_scale=(None, None),
        drop_path=0.0,
    )
    ungated = replace(gated, gated=False, mlp_ratios=(2.45, 2.48))  # a neuron also has nine convolution weights
    return {
        "rmt": replace(ungated, window=None, full=(False, True)),
        "retention, no gate": ungated,
        "swat, no gate": replace(ungated, variant="swat"),
        "retention": gated,
        "swat": replace(gated, variant="swat"),
        "retention, no decay": replace(gated, decay=None),
        "SWAT, no slopes": replace(gated, variant="swat", balanced=False),
    }


@cache
def motifs() -> Tensor:
    """The pixels [CLASSES, BOX x BOX] of each class, 0 or 1, the same under every seed."""
    return scattered((CLASSES,), torch.Generator().manual_seed(9))


def scattered(shape: tuple[int, ...], generator: Any) -> Tensor:
    """Squares [*shape, BOX x BOX] with `POINTS` ones at random places."""
    order = torch.rand(*shape, BOX * BOX, generator=generator).argsort(-1)
    return torch.zeros(order.shape).scatter_(-1, order[..., :POINTS], 1.0)


def images(n: int, generator: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    """Draw n images [n, 1, SIDE, SIDE] and their classes [n]; the motif and the distractors may overlap."""
    classes = torch.randint(CLASSES, (n,), generator=generator)
    squares = torch.cat([motifs()[classes][:, None], scattered((n, DISTRACTORS), generator)], 1)
    corner = torch.randint(SIDE - BOX + 1, (n, 1 + DISTRACTORS, 2), generator=generator)
    rows, columns = (corner[..., axis, None] + torch.arange(BOX) for axis in (0, 1))
    places = (rows[..., :, None] * SIDE + columns[..., None, :]).flatten(1)
    pixels = torch.zeros(n, SIDE * SIDE).scatter_reduce(1, places, squares.flatten(1), "amax")
    noisy = pixels + NOISE * torch.randn(pixels.shape, generator=generator)
    return (noisy.view(n, 1, SIDE, SIDE),), classes


def measured(arm: str, rate: float, seed: int, steps: int, device: str = "cpu") -> dict[str, Any]:
    """Train one arm; all arms of a seed see the same images.

    Returns:
        accuracy: share of test images that are recognised.
        loss: mean of the last tenth of the steps (nats).
        gate_open, gate_closed: mean of the G1 gates on test images, and share of them below 0.1; None without gates.
        parameters: number of the model's parameters.
    """
    settings = arms()[arm]
    options = {"num_classes": CLASSES, "in_chans": 1, "stem_stride": STRIDE}
    model: Any = seeded(lambda: GatedSwinRMT(settings, **options), seed).to(device)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)

    def drawn(n: int, source: Any) -> tuple[tuple[Tensor, ...], Tensor]:
        (pixels,), classes = images(n, source)
        return (pixels.to(device),), classes.to(device)

    loss = fit(model, lambda: drawn(BATCH, generator), steps=steps, rate=rate, weight_decay=WEIGHT_DECAY)
    inputs, classes = drawn(TESTED, torch.Generator().manual_seed(10**6 + seed))
    gates = None
    if settings.gated and settings.variant == "retention":
        gates = torch.cat([one.flatten() for one in gate_maps(model, inputs[0][:100])])
    return {
        "accuracy": accuracy(model, inputs, classes),
        "loss": loss,
        "gate_open": None if gates is None else float(gates.mean()),
        "gate_closed": None if gates is None else float((gates < 0.1).float().mean()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def judge(results: Results, found: Findings) -> None:
    """Decide on the differences of accuracy, and on whether parameters are equal."""
    accuracies = {name: results.column(name, "accuracy") for name in results.arms}
    sizes = [rows[0]["parameters"] for rows in results.arms.values()]
    found.measured |= {
        "accuracy": {name: mean(values) for name, values in accuracies.items()},
        "accuracy, standard deviation": {name: deviation(values) for name, values in accuracies.items()},
        "parameters, fewest and most": [min(sizes), max(sizes)],
        "G1, mean": mean(results.column("retention", "gate_open")),
        "G1, share below 0.1": mean(results.column("retention", "gate_closed")),
    }
    for name, (low, high) in PAIRS.items():
        found.decide(name, results.pairs("accuracy", high, low), above=0.0)
    for name, (low, high) in BESIDE.items():
        found.report(name, results.pairs("accuracy", high, low), above=0.0)
    found.check("equal parameters", max(sizes) <= 1.01 * min(sizes))


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for one value."""
    return statistics.stdev(values) if len(values) > 1 else None


def decay_figure() -> str:
    """The factor on a score over the Manhattan distance, for heads of the first stage."""
    settings = SIZES["swat"]
    rates = log_decay(settings.heads[0], 2.0, 4.0).tolist()
    series = {f"head {n}": [(d, math.exp(rate * d)) for d in range(13)] for n, rate in enumerate(rates)}
    words = "γ to the Manhattan distance for the six heads of the first stage: early heads see near, late ones far"
    return lines(series, "Manhattan distance in cells", "share of the weight that is left", words)
