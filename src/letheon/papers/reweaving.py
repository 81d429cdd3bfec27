"""Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction.

arXiv 2502.02046, 2025-02.

Only the abstract was available: the module is a reconstruction after it, and the paper's figures are not known.
Measured here on a small model whose attention ends after 8 tokens, trained in this run, then frozen: recall of facts
that lie further back than it reaches, with add-ons trained on the same streams. Where a model attends to everything,
little gain is to be expected. The world's sizes and the rates were chosen on a model and streams of their own. Not
measured: SmolLM2, long-form text, arithmetic, milliseconds per token.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch

from letheon.attend.attaching import AddOns, attach
from letheon.attend.controls import RandomGate, Scrambled
from letheon.attend.controls import Settings as AdapterSettings
from letheon.attend.reweaving import Reweaving, Settings
from letheon.core.model.models import LanguageModel
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.recall_world import BASE_STEPS, LAYERS, STEPS, WIDTH, compared, recall_figure
from letheon.papers.outcome import Claim, Findings, judge_pairs, judge_values

WINDOW, SIZE = 7, 32  # the module sees what attention does not; width of its queries and keys
ARMS = ("reweaving", "adapter", "scrambled", "random gate")
ALLOWED_LOSS = 0.02  # of recall within the window
CLAIM = (
    "off, the model's logits are the same to the bit; trained on a frozen model with attention to 8 tokens, reweaving "
    "recalls facts beyond the model's reach more often than the model alone, an adapter of equal parameters at the "
    "same layer, reweaving of another text's states, and reweaving with a random gate; within the window it loses at "
    "most 0.02"
)


def reproduce(scale: Scale) -> Outcome:
    """Run the claim; a model and its streams per seed."""

    claim = Claim("reweaving", CLAIM, ["the model alone", *ARMS[1:]])
    steps = (BASE_STEPS, STEPS) if scale.name == "fast" else (4 * BASE_STEPS, 4 * STEPS)
    runs = {seed: compared(ARMS, make, (), seed, *steps) for seed in scale.seeds}
    rows = [{"seed": seed, "arm": arm, **values} for seed, one in runs.items() for arm, values in one.items()]
    return claim.outcome(judged(runs), scale.seeds, {"recall": recall_figure(runs)}, rows)


def make(arm: str, model: LanguageModel, seed: int) -> AddOns:
    """An arm beside the model, with equal parameters. Gates start half open: 300 steps do not open a closed one."""

    settings = Settings(window=WINDOW, width=SIZE, gate_bias=0.0)
    if arm == "adapter":
        as_many = sum(p.numel() for p in Reweaving(WIDTH, LAYERS, settings).parameters())
        return attach(model, arm, {arm: AdapterSettings(parameters=as_many)}, seed)
    kind = {"reweaving": Reweaving, "scrambled": Scrambled, "random gate": RandomGate}[arm]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AddOns(model, {arm: kind(WIDTH, LAYERS, settings)})


def judged(runs: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> Findings:
    """What was measured, its intervals, and a verdict for every part of the claim."""

    def of(arm: str, what: str) -> list[float]:
        return [one[arm][what] for one in runs.values()]

    far, near = "beyond reach", "within the window"
    changed = judge_values(of("reweaving", "logits changed when off"), 0.5, "below")
    lost = judge_pairs(of("model", near), of("reweaving", near), -ALLOWED_LOSS, "above")
    found = Findings()
    found.decide({"logits changed when off": changed, f"recall {near}, minus the model's": lost})
    for arm in ("model", *ARMS[1:]):
        found.decide({f"recall {far}, minus {arm}": judge_pairs(of(arm, far), of("reweaving", far), 0.0, "above")})
    for what in (near, "beyond the window", far):
        found.measured[f"recall {what}"] = {arm: statistics.mean(of(arm, what)) for arm in ("model", *ARMS)}
    found.measured["gain beyond reach, rare keys and frequent ones"] = {
        kind: statistics.mean(of("reweaving", f"{far}, {kind}")) - statistics.mean(of("model", f"{far}, {kind}"))
        for kind in ("rare", "frequent")
    }
    found.measured["parameters"] = {arm: of(arm, "parameters")[0] for arm in ARMS}
    return found
