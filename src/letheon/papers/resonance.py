"""Exploring Synaptic Resonance in Large Language Models: A Novel Approach to Contextual Memory Integration.

arXiv 2502.10699, 2025-02; Applegarth et al.

Only the abstract and a review's paraphrase were available: the module is a mechanism that fits them, and the paper's
figures are not known. Measured as `reweaving` is, on a small model whose attention ends after 8 tokens, trained in this
run, then frozen, with one layer of synapses trained beside it on clean streams. The abstract promises that recurring
patterns last over long distances and that noise costs less. Controls are arms without a memory, and arms with the same
synapses and another rule, which show what resonance adds to fast weights. Width, layer and rates were chosen on a model
and streams of their own (where the delta rule already recalled more). Training was cut from 300 to 200 steps after a
first run of over 4 minutes. Not measured: SmolLM2, long-form text, coherence, milliseconds per token.
"""

from __future__ import annotations

import statistics

from letheon.attend.attaching import AddOns
from letheon.attend.controls import RandomRead, StrangeResonance
from letheon.attend.resonance import Settings, SynapticResonance
from letheon.core.model.models import LanguageModel
from letheon.papers.common.recall_world import (
    FAR,
    FREQUENT,
    NEAR,
    RARE,
    attached,
    equal_adapter,
    judge_recall,
    mean_recall,
    recall_figure,
    recall_parts,
    recall_results,
)
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale

LAYER, SIZE = 1, 16  # the layer with synapses, and the side of a synaptic matrix
STEPS = 200
MEMORIES = ("strange resonance", "hebb", "delta")  # the same synapses under other rules
ARMS = ("resonance", "adapter", "random read", *MEMORIES)
NOISES = (0.05, 0.1, 0.2)
PRIMARY = (
    *recall_parts("resonance", "recall of recurring facts", ARMS),
    *(f"cost of noise, minus {arm}" for arm in MEMORIES),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare the arms' recall, on clean and on noisy streams, on one trained model per seed."""
    found.baselines += ["the model alone", *ARMS[1:]]
    results = recall_results(ARMS, make, NOISES, scale, STEPS)
    judge(results, found)
    found.figures |= {"recall": recall_figure(results), "noise": noise_figure(results)}
    found.rows += results.rows()


def make(arm: str, model: LanguageModel, seed: int) -> AddOns:
    """An arm beside the model; all arms have equal parameters."""
    rule = arm if arm in ("hebb", "delta") else "resonance"
    # gates start half open, because 200 steps do not open a closed one
    settings = Settings(layers=(LAYER,), width=SIZE, rule=rule, gate_bias=0.0)  # type: ignore[arg-type]
    if arm == "adapter":
        return equal_adapter(SynapticResonance, settings, model, seed, layer=LAYER)
    kind = {"strange resonance": StrangeResonance, "random read": RandomRead}.get(arm, SynapticResonance)
    return attached(arm, kind, settings, model, seed)


def judge(results: Results, found: Findings) -> None:
    """Decide on recall of recurring facts against every arm, and on the cost of noise against other memories."""
    judge_recall(results, found, "resonance", FREQUENT, "recall of recurring facts")
    for arm in MEMORIES:
        costs = Pairs(noise_cost(results, arm), noise_cost(results, "resonance"))
        found.decide(f"cost of noise, minus {arm}", costs, below=0.0)
    for place in (NEAR, "beyond the window", FAR, FREQUENT, RARE):
        found.measured[f"recall {place}"] = mean_recall(results, place)
    found.measured["recall beyond reach by share of noise"] = {
        arm: dict(noise_curve(results, arm)) for arm in results.arms
    }


def noise_cost(results: Results, arm: str) -> list[float]:
    """Recall beyond reach that the largest share of noise costs, one value per seed."""
    return [row[FAR] - row["noise"][NOISES[-1]][FAR] for row in results.arms[arm]]


def noise_curve(results: Results, arm: str) -> list[tuple[float, float]]:
    """(share of noise, mean recall beyond reach)."""
    noisy = [(p, statistics.mean(row["noise"][p][FAR] for row in results.arms[arm])) for p in NOISES]
    return [(0.0, statistics.mean(results.column(arm, FAR))), *noisy]


def noise_figure(results: Results) -> str:
    """Recall beyond reach over the share of noise."""
    curves = {arm: noise_curve(results, arm) for arm in results.arms}
    return lines(curves, "share of facts with a value at random", "recall", "Recall beyond reach under noise, by arm")
