"""Mixing Mechanisms: How Language Models Retrieve Bound Entities In-Context.

arXiv 2510.06182, 2025-10; ICLR 2026. Full scale in the paper: nine models of 2B to 72B, ten tasks, lists of 20 groups.
Here: a small Llama is trained to answer about lists of bound words; the mixture is fitted to its answers under
interventions at a layer, and tested on cells that were held out. The layer is the one at which the three mechanisms
show most among those whose state does not give the answer by itself, chosen on half of the lists; the fit has the rest.
"""

from __future__ import annotations

import random
from typing import Any

import torch

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.papers.common.small_llama import small_llama
from letheon.papers.kit.findings import Findings, Threshold
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.binding.mixture import LEAST_CELLS, cell_means, fit_mixture
from letheon.probe.binding.report import answered_pairs, bound_share, encode_pairs, look_up
from letheon.probe.binding.tasks import Groups, Schema, answer_ids, draw_pairs, encode_groups

# The parts that decide, named before any run.
BOUNDS = {
    "similarity on held-out cells": Threshold(above=0.9),
    "full mixture minus its best ablation": Threshold(above=0.0),
    "share of the three mechanisms before the answer is copied": Threshold(above=0.5),
}
PRIMARY = tuple(BOUNDS)
# That a good fit is bad for permuted groups holds by construction: it is only reported.
PERMUTED = "groups permuted minus uniform"
BESIDE = (PERMUTED, "accuracy", "copied")
SCHEMA = Schema(
    "words", tuple(f"thing{i}" for i in range(32)), tuple(f"box{i}" for i in range(32)),
    "{query} is in {answer}", "{query} is in", "Here",
)  # fmt: skip
GROUPS, PAIRS = 6, 2000
STEPS = {"fast": 2500, "full": 6000}


def reproduce(scale: Scale, found: Findings) -> None:
    """Train one model per seed, intervene, and fit the mixture and its ablations."""
    found.baselines += ["the mixture without one of its terms", "one-hot position", "uniform"]
    results = Results({"mixture": [measured(seed, STEPS[scale.name]) for seed in scale.seeds]})
    results.record(found)
    results.judge(found, "mixture", BOUNDS, BESIDE)


def measured(seed: int, steps: int, pairs: int = PAIRS, epochs: int = 3000) -> dict[str, Any]:
    """Train a model and fit the mixture to its answers; no value if it answers too few lists."""
    model = trained(seed, steps)
    drawn = draw_pairs(SCHEMA, GROUPS, pairs, stream_seed(seed, "pairs"))
    prompts = encode_pairs(model, SCHEMA, drawn)
    keep = answered_pairs(model, prompts)
    accuracy = len(keep) / len(prompts.original)
    empty: dict[str, Any] = {"seed": seed, **dict.fromkeys(PRIMARY), "accuracy": accuracy}
    if len(keep) < 20:
        return empty
    seen = look_up(model, prompts.select(keep))
    cells = [(p, k, r) for p, k, r, _ in seen.held_out.pointers.tolist()]
    means = cell_means(cells, seen.patched.distribution)
    if len(means) < LEAST_CELLS:
        return empty
    fit = fit_mixture(means, seed=seed, epochs=epochs)
    full, uniform, rival = (fit.similarity[name] for name in ("full", "uniform", fit.best_ablation))
    decided = dict(zip((*PRIMARY[:2], PERMUTED), (full, full - rival, fit.permuted - uniform), strict=True))
    beside = {"layer": seen.layer, "copied": seen.copied_there, **seen.patched.shares()}
    return empty | {**decided, PRIMARY[2]: bound_share(seen.patched), **beside}


def trained(seed: int, steps: int, batch: int = 32) -> LanguageModel:
    """Train a small Llama to answer questions about lists of bound words; the loss is the answer's token's."""
    words = " ".join(["", *SCHEMA.queried, *SCHEMA.answers, "Here is in"])
    model = small_llama([Example(f"{words}, .", "x"), Example("Here", "x")], seed, layers=3, embedding_scale=8.0)
    model.tokenizer.chat_template = None
    draw = random.Random(stream_seed(seed, "lists"))
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    model.model.train()
    for _ in range(steps):
        lists = [draw_list(draw) for _ in range(batch)]
        ids = torch.tensor([encode_groups(model, SCHEMA, one) for one in lists])
        right = torch.tensor([answer_ids(model, one)[one.asked] for one in lists])
        loss = torch.nn.functional.cross_entropy(model.model(ids, logits_to_keep=1).logits[:, -1], right)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        schedule.step()
    model.model.eval()
    return model


def draw_list(draw: random.Random) -> Groups:
    """Draw a list of bound words and the group that is asked for."""
    pairs = zip(draw.sample(SCHEMA.queried, GROUPS), draw.sample(SCHEMA.answers, GROUPS), strict=True)
    return Groups(tuple(pairs), draw.randrange(GROUPS))
