"""Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction.

arXiv 2502.02046, 2025-02.

Only the abstract was available: the module is a reconstruction after it, and the paper's figures are not known.
Measured here on a small model whose attention ends after 8 tokens, trained in this run, then frozen: recall of facts
beyond its reach, with add-ons trained on the same streams. A model that attends to everything has little to gain. The
world's sizes and the rates were chosen on a model and streams of their own. Not measured: SmolLM2, long-form text,
arithmetic, milliseconds per token.
"""

from __future__ import annotations

import statistics

from letheon.attend.attaching import AddOns
from letheon.attend.controls import RandomGate, Scrambled
from letheon.attend.reweaving import Reweaving, Settings
from letheon.core.model.models import LanguageModel
from letheon.papers.common.recall_world import (
    FAR,
    NEAR,
    attached,
    equal_adapter,
    judge_recall,
    mean_recall,
    recall_figure,
    recall_parts,
    recall_results,
)
from letheon.papers.kit.findings import Findings
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale

STEPS = 300
# The module's window is the tokens that attention does not reach; queries and keys have width 32. Gates start half
# open, because 300 steps do not open a closed one.
SETTINGS = Settings(window=7, width=32, gate_bias=0.0)
KINDS = {"reweaving": Reweaving, "scrambled": Scrambled, "random gate": RandomGate}
ARMS = ("reweaving", "adapter", "scrambled", "random gate")
PRIMARY = recall_parts("reweaving", f"recall {FAR}", ARMS)


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare the arms' recall on one trained model and its streams per seed."""
    found.baselines += ["the model alone", *ARMS[1:]]
    results = recall_results(ARMS, make, (), scale, STEPS)
    judge(results, found)
    found.figures["recall"] = recall_figure(results)
    found.rows += results.rows()


def make(arm: str, model: LanguageModel, seed: int) -> AddOns:
    """An arm beside the model; all arms have equal parameters."""
    if arm == "adapter":
        return equal_adapter(Reweaving, SETTINGS, model, seed)
    return attached(arm, KINDS[arm], SETTINGS, model, seed)


def judge(results: Results, found: Findings) -> None:
    """Decide whether reweaving recalls more beyond the model's reach than the model and every control."""
    judge_recall(results, found, "reweaving", FAR, f"recall {FAR}")
    for place in (NEAR, "beyond the window", FAR):
        found.measured[f"recall {place}"] = mean_recall(results, place)
    found.measured["gain beyond reach, rare keys and frequent ones"] = {
        kind: statistics.mean(results.column("reweaving", f"{FAR}, {kind}"))
        - statistics.mean(results.column("model", f"{FAR}, {kind}"))
        for kind in ("rare", "frequent")
    }
