"""Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction.

arXiv 2502.02046, 2025-02.

Only the abstract was available: the module is a reconstruction after it, and the paper's figures are not known.
Measured here on a small model whose attention ends after 8 tokens, trained in this run, then frozen: recall of facts
beyond its reach, with add-ons of equal parameters, steps and streams, each at its own rate from a model and streams
that are not judged. A model that attends to everything has little to gain, so any module that looks back recalls more
than the model alone. What the paper adds to looking back is decided by arms that look back as well: one plain head of
attention to the same states, reweaving of a single layer, and reweaving with a random gate. The abstract's gain for
rare tokens is a part. The ceiling is a model with full attention, trained as long as the one with a window. Not
measured: SmolLM2, long-form text, arithmetic, milliseconds per token.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

from letheon.attend.attaching import AddOns
from letheon.attend.controls import LongAttention, RandomGate
from letheon.attend.reweaving import Reweaving, Settings
from letheon.core.model.models import LanguageModel
from letheon.papers.common.recall_world import (
    BASE_STEPS,
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
    recalled,
    trained_base,
    tuned_rates,
)
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale

STEPS = 500
OURS, ATTENTION, ONE, RANDOM = "reweaving", "attention", "one layer", "random gate"
# The module's window is the tokens that attention does not reach; queries and keys have width 32. Gates start half
# open, because so few steps do not open a closed one. Widths of the arms with one layer make parameters equal.
SETTINGS = Settings(window=7, width=32, gate_bias=0.0)
SINGLE = replace(SETTINGS, capture=(1,), width=57)
KINDS: dict[str, tuple[type[Reweaving], Settings]] = {
    OURS: (Reweaving, SETTINGS),
    ATTENTION: (LongAttention, replace(SETTINGS, capture=(1,), width=50, bottleneck=32, window=1)),
    ONE: (Reweaving, SINGLE),
    RANDOM: (RandomGate, SETTINGS),
}
ARMS = tuple(KINDS)
ALIKE = 0.02  # "no less", in recall
RARE_PART = "gain beyond reach, rare keys minus frequent ones"
PRIMARY = (*recall_parts(OURS, f"recall {FAR}", ARMS), RARE_PART)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare the arms' recall on one trained model and its streams per seed."""
    found.baselines += ["the model alone", *ARMS[1:]]
    rates = tuned_rates(found, ARMS, make, FAR, scale, STEPS)
    results = recall_results(rates, make, (), scale, STEPS)
    judge(results, found)
    steps = BASE_STEPS * (1 if scale.name == "fast" else 4)
    whole = [recalled(trained_base(seed, steps, None), seed)[FAR] for seed in scale.seeds]
    found.measured[f"recall {FAR} of a model with full attention"] = statistics.mean(whole)
    found.figures["recall"] = recall_figure(results)
    found.rows += results.rows()


def make(arm: str, model: LanguageModel, seed: int) -> AddOns:
    """An arm beside the model; all arms have equal parameters."""
    kind, settings = KINDS[arm]
    return attached(arm, kind, settings, model, seed)


def judge(results: Results, found: Findings) -> None:
    """Decide on recall beyond the model's reach against arms that look back too, and on rare keys."""
    judge_recall(results, found, OURS, FAR, f"recall {FAR}", beside=("model",))
    gains = []
    for place in (FREQUENT, RARE):
        columns = (results.column(arm, place) for arm in ("model", OURS))
        gains.append([ours - alone for alone, ours in zip(*columns, strict=True)])
    found.decide(RARE_PART, Pairs(*gains), above=-ALIKE)
    for place in (NEAR, "beyond the window", FAR, RARE, FREQUENT):
        found.measured[f"recall {place}"] = mean_recall(results, place)
