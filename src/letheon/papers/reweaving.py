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
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from letheon.papers.catalogue import Outcome, Paper, Scale, Verdict
from letheon.papers.outcome import Judged, judge_pairs, judge_values, together

if TYPE_CHECKING:
    from letheon.attend.attaching import AddOns
    from letheon.core.models import LanguageModel

BASE_STEPS, STEPS, TESTS = 250, 300, 64
BASE_RATE, RATE = 5e-3, 1e-2
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
    started = time.monotonic()
    steps = (BASE_STEPS, STEPS) if scale.name == "fast" else (4 * BASE_STEPS, 4 * STEPS)
    found = {seed: compared(seed, *steps) for seed in scale.seeds}
    measured, intervals, verdicts = judged(found)
    return Outcome(
        key="reweaving",
        claim=CLAIM,
        baselines=["the model alone", *ARMS[1:]],
        measured=measured,
        interval=intervals,
        verdict=together(verdicts),
        seeds=list(scale.seeds),
        seconds=time.monotonic() - started,
        figures=figures(found),
        rows=[{"seed": seed, "arm": arm, **values} for seed, one in found.items() for arm, values in one.items()],
    )


def compared(seed: int, base_steps: int, steps: int) -> dict[str, dict[str, Any]]:
    """What the model alone and each arm recall; all arms learn from the same streams and are tested on the same."""
    import torch

    from letheon.core.sampling import stream_seed
    from letheon.papers.common.recall_world import streams, train, windowed_model

    model = windowed_model(stream_seed(seed, "model"))
    train(model, model.model.parameters(), base_steps, stream_seed(seed, "base"), rate=BASE_RATE)
    tests = streams(TESTS, torch.Generator().manual_seed(stream_seed(seed, "test")))
    found: dict[str, dict[str, Any]] = {"model": recall(model, tests)}
    for arm in ARMS:
        with torch.inference_mode():
            before = model.model(tests.ids[:4], use_cache=False).logits
        addons = make(arm, model, seed)
        train(model, addons.parameters().values(), steps, stream_seed(seed, "addon"), rate=RATE, penalty=addons.penalty)
        torch.manual_seed(stream_seed(seed, "gate"))
        found[arm] = recall(model, tests) | {"parameters": sum(p.numel() for p in addons.parameters().values())}
        with addons.off(), torch.inference_mode():
            after = model.model(tests.ids[:4], use_cache=False).logits
        found[arm]["logits changed when off"] = int((before != after).sum())
        addons.detach()
    return found


def make(arm: str, model: LanguageModel, seed: int) -> AddOns:
    """An arm beside the model, with equal parameters. Gates start half open: 300 steps do not open a closed one."""
    import torch

    from letheon.attend.attaching import AddOns, attach
    from letheon.attend.controls import RandomGate, Scrambled
    from letheon.attend.controls import Settings as AdapterSettings
    from letheon.attend.reweaving import Reweaving, Settings
    from letheon.papers.common.recall_world import LAYERS, WIDTH

    settings = Settings(window=WINDOW, width=SIZE, gate_bias=0.0)
    if arm == "adapter":
        as_many = sum(p.numel() for p in Reweaving(WIDTH, LAYERS, settings).parameters())
        return attach(model, arm, {arm: AdapterSettings(parameters=as_many)}, seed)
    kind = {"reweaving": Reweaving, "scrambled": Scrambled, "random gate": RandomGate}[arm]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AddOns(model, {arm: kind(WIDTH, LAYERS, settings)})


def recall(model: LanguageModel, tests: Any) -> dict[str, Any]:
    """Share of right answers by the distance of the fact, and of the far ones for rare and for frequent keys."""
    from letheon.papers.common.recall_world import REACH, WINDOW, right

    correct, distance = right(model, tests), tests.distance
    beyond = distance > REACH
    rare = tests.times <= tests.times[beyond].median()
    places = {
        "within the window": (distance > 0) & (distance < WINDOW),
        "beyond the window": (distance >= WINDOW) & (distance <= REACH),
        "beyond reach": beyond,
        "beyond reach, rare": beyond & rare,
        "beyond reach, frequent": beyond & ~rare,
    }
    found: dict[str, Any] = {name: float(correct[place].float().mean()) for name, place in places.items()}
    edges = (1, 4, 8, 16, 22, 32, 48, 64, 128)
    found["by distance"] = {
        low: float(correct[(distance >= low) & (distance < high)].float().mean()) for low, high in pairwise(edges)
    }
    return found


def judged(
    found: Mapping[int, Mapping[str, Mapping[str, Any]]],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Verdict]]:
    """What was measured, its intervals, and a verdict for every part of the claim."""

    def of(arm: str, what: str) -> list[float]:
        return [one[arm][what] for one in found.values()]

    far, near = "beyond reach", "within the window"
    parts: dict[str, Judged] = {
        "logits changed when off": judge_values(of("reweaving", "logits changed when off"), 0.5, "below"),
        f"recall {near}, minus the model's": judge_pairs(
            of("model", near), of("reweaving", near), -ALLOWED_LOSS, "above"
        ),
    }
    for arm in ("model", *ARMS[1:]):
        parts[f"recall {far}, minus {arm}"] = judge_pairs(of(arm, far), of("reweaving", far), 0.0, "above")
    measured: dict[str, Any] = {name: part.value for name, part in parts.items()}
    for what in (near, "beyond the window", far):
        measured[f"recall {what}"] = {arm: statistics.mean(of(arm, what)) for arm in ("model", *ARMS)}
    measured["gain beyond reach, rare keys and frequent ones"] = {
        kind: statistics.mean(of("reweaving", f"{far}, {kind}")) - statistics.mean(of("model", f"{far}, {kind}"))
        for kind in ("rare", "frequent")
    }
    measured["parameters"] = {arm: of(arm, "parameters")[0] for arm in ARMS}
    verdicts: dict[str, Verdict] = {name: part.verdict for name, part in parts.items()}
    return measured | {"parts": verdicts}, {name: part.interval for name, part in parts.items()}, verdicts


def figures(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Recall over the distance of the fact, first seed."""
    from letheon.papers.common.figures import lines

    one = next(iter(found.values()))
    curves = {arm: list(values["by distance"].items()) for arm, values in one.items()}
    return {"recall": lines(curves, "tokens back", "recall", "Recall of a fact over its distance, by arm")}


PAPER = Paper(
    number=24,
    key="reweaving",
    title="Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction",
    date="2025-02",
    arxiv="2502.02046",
    room="attend/reweaving",
    gives="Layered latent state reconstruction, added to a model that exists already.",
    claim=(
        "With its gate at 0 the module is a bit-exact no-op; with trained gates it lowers the loss or "
        "raises recall on long inputs against controls of equal parameters, among them an adapter at the same "
        "layer, a random gate, and shuffled states."
    ),
    reproduce=reproduce,
)
