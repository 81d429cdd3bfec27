"""Does Learning Require Memorization? A Short Tale about a Long Tail; and What Neural Networks Memorize and Why.

arXiv 1906.05271, 2019-06, Vitaly Feldman (STOC 2020); arXiv 2008.03703, Feldman & Zhang (NeurIPS 2020).

Measured here: per seed, networks on random 70 % subsets of the digits, in which labels are flipped and two classes are
rare; the removal curve is compared with an equal number of random rows by accuracy on the rare classes. The theory is
simulated with Zipf frequencies and random labels. That the bound with tau_1 holds is a theorem and is reported beside
the claim; what is decided is that the measured excess error is the predicted one. Full scale in the paper: CIFAR-100
and ImageNet with thousands of models.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from letheon.core.statistics import estimate_auroc
from letheon.measure.memorization.estimators import draw_subsets, memorisation
from letheon.measure.memorization.learners import Mlp
from letheon.measure.memorization.long_tail import marginal, simulate, tau, tau1_bound, zipf
from letheon.measure.memorization.measure import planted_digits
from letheon.measure.memorization.removal import removal_curve
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.outcome import Scale

SUBSETS = {"fast": 100, "full": 2000}
ROWS = {"fast": 600, "full": 1200}
LEARNER = Mlp(hidden=(64,), epochs=80)
REMOVED, REPEATS = 0.1, 20  # share of the training rows, and models per point; chosen on seed 100
POINTS, SAMPLE = 4000, 1000
FOUND, EXCESS, RARE, BOUND = (
    "AUROC of flipped labels",
    "excess error over its prediction",
    "accuracy on rare classes: without memorised minus without random rows",
    "tau_1 over its bound",
)
PRIMARY = [FOUND, EXCESS + ", above .95", EXCESS + ", below 1.05", RARE]


def reproduce(scale: Scale, found: Findings) -> None:
    """Find flipped labels, compare excess errors with the theory, and remove memorised rows."""
    found.baselines += ["removal of as many random rows", "removal of the least memorised rows"]
    found.rows += [one_seed(scale, seed) for seed in scale.seeds]
    judge(found.rows, found)


def one_seed(scale: Scale, seed: int) -> dict[str, Any]:
    """Measure one draw of digits and one of the long-tail model."""
    digits = planted_digits(ROWS[scale.name], seed=seed)
    n = len(digits.rows.labels)
    mask = draw_subsets(n, 0.7, SUBSETS[scale.name], seed)
    scores = memorisation(LEARNER.run(digits.rows, mask, seed))
    # Removal asks about honest rows: flipped labels are noise, and removing them helps everywhere.
    honest = np.where(digits.flipped, -1.0, scores)
    curve = removal_curve(
        digits.rows, honest, LEARNER, [round(REMOVED * n)], repeats=REPEATS, group=digits.rare, seed=seed
    )
    rare = {point.order: float(np.mean(point.group or ())) for point in curve}
    every = {point.order: float(np.mean(point.accuracy)) for point in curve}
    frequencies = marginal(zipf(POINTS), POINTS, draws=20, seed=seed)
    tau1 = tau(frequencies, SAMPLE)
    tails = [simulate(zipf(POINTS), POINTS, SAMPLE, tau1=tau1, seed=1000 * seed + i) for i in range(20)]
    return {
        "seed": seed,
        "auroc": estimate_auroc(scores[digits.flipped].tolist(), scores[~digits.flipped].tolist()).value,
        "excess ratio": sum(one.excess for one in tails) / sum(one.predicted for one in tails),
        "excess": sum(one.excess for one in tails) / len(tails),
        "tau ratio": tau1 / tau1_bound(frequencies, SAMPLE, POINTS),
        **{f"rare, {order}": value for order, value in rare.items()},
        **{f"accuracy, {order}": value for order, value in every.items()},
    }


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide the parts of the claim and report the loss on all classes."""
    of = Columns(rows)
    found.decide(FOUND, of("auroc"), above=0.9)
    found.decide(EXCESS + ", above .95", of("excess ratio"), above=0.95)
    found.decide(EXCESS + ", below 1.05", of("excess ratio"), below=1.05)
    found.report(BOUND, of("tau ratio"), above=1.0)
    found.decide(RARE, of.pairs("rare, memorised", "rare, random"), below=0.0)
    whole = of.pairs("accuracy, memorised", "accuracy, random")
    found.report("accuracy on all classes: memorised below random", whole, below=0.0)
    least = of.pairs("rare, memorised", "rare, least")
    found.report("accuracy on rare classes: memorised below least", least, below=0.0)
    losses = [
        (row["rare, memorised"] - row["rare, random"]) - (row["accuracy, memorised"] - row["accuracy, random"])
        for row in rows
    ]
    found.report("loss on rare classes beyond that on all", losses, below=0.0)
