"""Gated-SwinRMT: Unifying Swin Windowed Attention with Retentive Manhattan Decay via Input-Dependent Gating.

arXiv 2604.06014, 2026-04.

Measured here: two stages of two blocks, 0.22 million parameters, on MNIST where LETHEON_DATA has `mnist_10k` and on
scikit-learn's digits otherwise. All models have the same images and steps, and the same number of parameters by the
width of their feed-forwards. Full scale in the paper: 77 to 79 million parameters on Mini-ImageNet and CIFAR-10; on the
former it reports 80.22 (SWAT) and 78.20 (Retention) against 73.74 for RMT, single runs. Nothing as large was run here.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from letheon.attend.gated_swinrmt import SIZES, GatedSwinRMT, Settings, gate_maps, log_decay
from letheon.core.rows.sampling import epochs_of
from letheon.papers.common.classify import accuracy, fit
from letheon.papers.common.networks import seeded
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.retain.streams.mnist import read_mnist

TRAIN, TEST = 1000, 1000  # images
BATCH, RATE, WEIGHT_DECAY = 25, 3e-3, 0.05
STEPS = {"fast": 100, "full": 800}
# Each claimed difference: the second arm's accuracy is above the first's.
PAIRS = {
    "retention minus RMT": ("rmt", "retention"),
    "SWAT minus RMT": ("rmt", "swat"),
    "retention minus no gate": ("retention, no gate", "retention"),
    "SWAT minus no gate": ("swat, no gate", "swat"),
}
PRIMARY = tuple(PAIRS)


def reproduce(scale: Scale, found: Findings) -> None:
    """Train every arm under every seed: about 10 s each on one core, five arms per seed."""
    found.baselines += ["RMT at equal parameters", "the same blocks without a gate"]
    steps = STEPS[scale.name]
    data = {seed: images(seed) for seed in scale.seeds}
    first = data[scale.seeds[0]]
    results = Results(
        {
            name: [{"seed": seed, **run(name, data[seed], seed, steps, scale.device)} for seed in scale.seeds]
            for name in arms(first.window)
        }
    )
    found.measured["images"] = first.name
    judge(results, found)
    found.figures["decay"] = decay_figure()
    found.rows += results.rows()


def arms(window: int) -> dict[str, Settings]:
    """The settings of each arm; arms without a gate have wider feed-forwards, so that parameters are equal."""
    gated = Settings(
        dims=(32, 64),
        depths=(2, 2),
        heads=(2, 4),
        mlp_ratios=(2.0, 2.0),
        window=window,
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
    }


class Images(NamedTuple):
    """Training and test images [n, 1, rows, columns] from 0 to 1, with their classes [n].

    Attributes:
        stem_stride: stride of the model's first convolution.
        window: half the side of the first feature map.
    """

    name: str
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    stem_stride: int
    window: int


def images(seed: int) -> Images:
    """MNIST where it is available, scikit-learn's digits otherwise; the seed draws the training images."""
    path = Path(os.environ.get("LETHEON_DATA", "")) / "mnist_10k" / "mnist_10k.npz"
    if os.environ.get("LETHEON_DATA") and path.is_file():
        train, test = read_mnist(path, seed)
        return Images("MNIST", _some(*train, TRAIN), _some(*test, TEST), 2, 7)

    digits = load_digits()
    pixels, classes = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    train, test = ((pixels[rows], classes[rows]) for rows in (order[:TRAIN], order[TRAIN:]))
    return Images("scikit-learn's digits", train, test, 1, 4)


def _some(pixels: Tensor, classes: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """n images at equal distances, because some files are sorted by class."""
    rows = torch.linspace(0, len(classes) - 1, min(n, len(classes))).long()
    return pixels[rows], classes[rows]


def run(name: str, data: Images, seed: int, steps: int, device: str = "cpu") -> dict[str, Any]:
    """Train one arm; all arms of a seed see the same batches.

    Returns:
        accuracy: share of test images that are recognised.
        loss: mean of the last tenth of the steps (nats).
        gate_open, gate_closed: mean of the G1 gates on test images, and share of them below 0.1; None without gates.
        parameters: number of the model's parameters.
    """
    settings = arms(data.window)[name]
    train, test = ([x.to(device) for x in part] for part in (data.train, data.test))
    options = {"num_classes": 10, "in_chans": 1, "stem_stride": data.stem_stride}
    model: Any = seeded(lambda: GatedSwinRMT(settings, **options), seed).to(device)  # type: ignore[arg-type]
    batches = iter(epochs_of(len(train[1]), BATCH, steps, seed))

    def draw() -> tuple[tuple[Tensor, ...], Tensor]:
        rows = torch.tensor(next(batches), device=device)
        return (train[0][rows],), train[1][rows]

    loss = fit(model, draw, steps=steps, rate=RATE, weight_decay=WEIGHT_DECAY)
    gates = None
    if settings.gated and settings.variant == "retention":
        gates = torch.cat([one.flatten() for one in gate_maps(model, test[0][:100])])
    return {
        "accuracy": accuracy(model, (test[0],), test[1]),
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
