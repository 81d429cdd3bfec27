"""Exploring Synaptic Resonance in Large Language Models: A Novel Approach to Contextual Memory Integration.

arXiv 2502.10699, 2025-02; Applegarth et al..

Only the abstract and a review's paraphrase were available: the module is a mechanism made to fit them, and the paper's
figures are not known. Measured here as `reweaving` is, on a small model whose attention ends after 8 tokens, trained in
this run, then frozen, and one layer of synapses trained beside it on clean streams. The abstract's two promises are
asked of it: patterns that recur are kept better over long distances, and noise costs less. Beside arms without a memory
stand arms with the same synapses and another rule, which tell what resonance adds to fast weights. Width, layer and
rates were chosen on a model and streams of their own (where the delta rule already recalled more). The first run had
300 steps and took over 4 minutes; cut to 200 after it. Not measured: SmolLM2, long-form text, coherence, milliseconds
per token.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch

from letheon.attend.attaching import AddOns, attach
from letheon.attend.controls import RandomRead, StrangeResonance
from letheon.attend.controls import Settings as AdapterSettings
from letheon.attend.resonance import Settings, SynapticResonance
from letheon.core.model.models import LanguageModel
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.figures import lines
from letheon.papers.common.recall_world import BASE_STEPS, LAYERS, WIDTH, compared, recall_figure
from letheon.papers.outcome import Claim, Findings, judge_pairs, judge_values

LAYER, SIZE = 1, 16  # where the synapses lie, and the side of a matrix
STEPS = 200
MEMORIES = ("strange resonance", "hebb", "delta")  # the same synapses, driven otherwise
ARMS = ("resonance", "adapter", "random read", *MEMORIES)
NOISES = (0.05, 0.1, 0.2)
ALLOWED_LOSS = 0.02  # of recall within the window
CLAIM = (
    "off, the model's logits are the same to the bit; trained on a frozen model with attention to 8 tokens, resonance "
    "recalls recurring facts beyond the model's reach more often than the model alone, an adapter of equal parameters, "
    "synapses read at random, synapses with another text's resonance, plain Hebb (linear attention with decay) and the "
    "delta rule; 20 % of noise costs it less recall than the last three; within the window it loses at most 0.02"
)


def reproduce(scale: Scale) -> Outcome:
    """Run the claim; a model and its streams per seed."""

    claim = Claim("resonance", CLAIM, ["the model alone", *ARMS[1:]])
    steps = (BASE_STEPS, STEPS) if scale.name == "fast" else (4 * BASE_STEPS, 4 * STEPS)
    runs = {seed: compared(ARMS, make, NOISES, seed, *steps) for seed in scale.seeds}
    rows = [{"seed": seed, "arm": arm, **values} for seed, one in runs.items() for arm, values in one.items()]
    drawn = {"recall": recall_figure(runs), "noise": noise_figure(runs)}
    return claim.outcome(judged(runs), scale.seeds, drawn, rows)


def make(arm: str, model: LanguageModel, seed: int) -> AddOns:
    """An arm beside the model, with equal parameters. Gates start half open: so few steps do not open a closed one."""

    rule = arm if arm in ("hebb", "delta") else "resonance"
    settings = Settings(layers=(LAYER,), width=SIZE, rule=rule, gate_bias=0.0)  # type: ignore[arg-type]
    if arm == "adapter":
        as_many = sum(p.numel() for p in SynapticResonance(WIDTH, LAYERS, settings).parameters())
        return attach(model, arm, {arm: AdapterSettings(layer=LAYER, parameters=as_many)}, seed)
    kind = {"strange resonance": StrangeResonance, "random read": RandomRead}.get(arm, SynapticResonance)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AddOns(model, {arm: kind(WIDTH, LAYERS, settings)})


def judged(runs: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> Findings:
    """What was measured, its intervals, and a verdict for every part of the claim."""

    def of(arm: str, what: str) -> list[float]:
        return [one[arm][what] for one in runs.values()]

    def cost(arm: str) -> list[float]:
        noisy = [one[arm]["noise"][NOISES[-1]][far] for one in runs.values()]
        return [clean - after for clean, after in zip(of(arm, far), noisy, strict=True)]

    far, recurring, near = "beyond reach", "beyond reach, frequent", "within the window"
    changed = judge_values(of("resonance", "logits changed when off"), 0.5, "below")
    lost = judge_pairs(of("model", near), of("resonance", near), -ALLOWED_LOSS, "above")
    found = Findings()
    found.decide({"logits changed when off": changed, f"recall {near}, minus the model's": lost})
    for arm in ("model", *ARMS[1:]):
        more = judge_pairs(of(arm, recurring), of("resonance", recurring), 0.0, "above")
        found.decide({f"recall of recurring facts, minus {arm}": more})
    for arm in MEMORIES:
        found.decide({f"cost of noise, minus {arm}": judge_pairs(cost(arm), cost("resonance"), 0.0, "below")})
    for what in (near, "beyond the window", far, recurring, "beyond reach, rare"):
        found.measured[f"recall {what}"] = {arm: statistics.mean(of(arm, what)) for arm in ("model", *ARMS)}
    found.measured["recall beyond reach by share of noise"] = {
        arm: dict(noise_curve(runs, arm)) for arm in ("model", *ARMS)
    }
    found.measured["parameters"] = {arm: of(arm, "parameters")[0] for arm in ARMS}
    return found


def noise_curve(runs: Mapping[int, Mapping[str, Mapping[str, Any]]], arm: str) -> list[tuple[float, float]]:
    """Shares of noise, and mean recall beyond reach on streams with it."""
    what = "beyond reach"
    clean = statistics.mean(one[arm][what] for one in runs.values())
    return [(0.0, clean), *((p, statistics.mean(one[arm]["noise"][p][what] for one in runs.values())) for p in NOISES)]


def noise_figure(runs: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
    """Recall beyond reach over the share of noise."""

    curves = {arm: noise_curve(runs, arm) for arm in ("model", *ARMS)}
    return lines(curves, "share of facts with a value at random", "recall", "Recall beyond reach under noise, by arm")
