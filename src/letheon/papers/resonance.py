"""Exploring Synaptic Resonance in Large Language Models: A Novel Approach to Contextual Memory Integration.

arXiv 2502.10699, 2025-02; Applegarth et al.

Only the abstract and a review's paraphrase were available: the module is a mechanism that fits them, and the paper's
figures are not known. Measured as `reweaving` is, on a small model whose attention ends after 8 tokens, trained in this
run, then frozen, with one layer of synapses trained beside it on clean streams. The abstract promises that recurring
patterns last over long distances and that noise costs less. Both are judged against the same synapses under other
rules, which show what resonance adds to fast weights: the delta rule, Hebb's, and resonance with another text's rho.
Recurring and rare facts compete for room: a matrix has four columns and the streams have eight keys. No arm has a
limit on its memory's norm, all have as many steps, and each has its own rate, from a model and streams that are not
judged. Not measured: SmolLM2, long-form text, coherence, milliseconds per token.
"""

from __future__ import annotations

import statistics

from letheon.attend.attaching import AddOns
from letheon.attend.controls import StrangeResonance
from letheon.attend.resonance import Settings, SynapticResonance
from letheon.core.model.models import LanguageModel
from letheon.papers.common.recall_world import (
    FAR,
    FREQUENT,
    NEAR,
    RARE,
    attached,
    judge_recall,
    mean_recall,
    recall_figure,
    recall_parts,
    recall_results,
    tuned_rates,
)
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

LAYER, SIZE = 1, 4  # the layer with synapses, and the side of a synaptic matrix
STEPS = 500
OURS = "resonance"
MEMORIES = ("strange resonance", "hebb", "delta")  # the same synapses under other rules
ARMS = (OURS, *MEMORIES)
NOISES = (0.05, 0.1, 0.2)
PRIMARY = (
    *recall_parts(OURS, "recall of recurring facts", ARMS),
    *(f"recall beyond reach under noise, minus {arm}" for arm in MEMORIES),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare the arms' recall, on clean and on noisy streams, on one trained model per seed."""
    found.baselines += ["the model alone", *MEMORIES]
    rates = tuned_rates(found, ARMS, make, FREQUENT, scale, STEPS)
    results = recall_results(rates, make, NOISES, scale, STEPS)
    judge(results, found)
    found.figures |= {"recall": recall_figure(results), "noise": noise_figure(results)}
    found.rows += results.rows()


def make(arm: str, model: LanguageModel, seed: int) -> AddOns:
    """An arm beside the model; all arms have equal parameters."""
    rule = arm if arm in ("hebb", "delta") else "resonance"
    # gates start half open, because so few steps do not open a closed one
    settings = Settings(layers=(LAYER,), width=SIZE, rule=rule, gate_bias=0.0, capped=False)  # type: ignore[arg-type]
    return attached(arm, StrangeResonance if arm == MEMORIES[0] else SynapticResonance, settings, model, seed)


def judge(results: Results, found: Findings) -> None:
    """Decide on recall of recurring facts, and under noise, against other memories; report other facts and costs."""
    judge_recall(results, found, OURS, FREQUENT, "recall of recurring facts", beside=("model",))
    for arm in MEMORIES:
        noisy = Pairs(under_noise(results, arm), under_noise(results, OURS))
        found.decide(f"recall beyond reach under noise, minus {arm}", noisy, above=0.0)
        costs = Pairs(noise_cost(results, arm), noise_cost(results, OURS))
        found.report(f"cost of noise, minus {arm}", costs, below=0.0)
        found.report(f"recall beyond reach, minus {arm}", results.pairs(FAR, OURS, arm), above=0.0)
    for place in (NEAR, "beyond the window", FAR, FREQUENT, RARE):
        found.measured[f"recall {place}"] = mean_recall(results, place)
    found.measured["recall beyond reach by share of noise"] = {
        arm: dict(noise_curve(results, arm)) for arm in results.arms
    }


def under_noise(results: Results, arm: str) -> list[float]:
    """Recall beyond reach at the largest share of noise, one value per seed."""
    return [row["noise"][NOISES[-1]][FAR] for row in results.arms[arm]]


def noise_cost(results: Results, arm: str) -> list[float]:
    """Recall beyond reach that the largest share of noise costs, one value per seed."""
    noisy = under_noise(results, arm)
    return [clean - left for clean, left in zip(results.column(arm, FAR), noisy, strict=True)]


def noise_curve(results: Results, arm: str) -> list[tuple[float, float]]:
    """(share of noise, mean recall beyond reach)."""
    noisy = [(p, statistics.mean(row["noise"][p][FAR] for row in results.arms[arm])) for p in NOISES]
    return [(0.0, statistics.mean(results.column(arm, FAR))), *noisy]


def noise_figure(results: Results) -> str:
    """Recall beyond reach over the share of noise."""
    curves = {arm: noise_curve(results, arm) for arm in results.arms}
    return lines(curves, "share of facts with a value at random", "recall", "Recall beyond reach under noise, by arm")
