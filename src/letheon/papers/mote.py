"""Mixture of Tunable Experts: Behavior Modification of DeepSeek-R1 at Inference Time.

arXiv 2502.11096, 2025-02. Full scale in the paper: DeepSeek-R1. Here: a small Mixtral (3 layers, 16 experts, 2 used)
taught templated questions that are refused for some places, and a task of copying. Experts are ranked on some of the
refused places and switched off on held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.statistics import estimate_mean
from letheon.papers.common.small_llama import scored, teach
from letheon.papers.common.steering_worlds import REFUSAL, RefusalWorld, refusal_world, small_mixture
from letheon.papers.kit.findings import Columns, Findings, Pairs, mean
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.steer.apply import steered
from letheon.steer.maps import OFF, ON
from letheon.steer.methods.mote import differential_map, expert_maps, switches_of, top_experts
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import token_rows

# The parts that decide, named before the first run.
PRIMARY = (
    "held-out refusals, top experts off minus random experts off",
    "held-out refusals, top experts off minus most used experts off",
    "probability of the right answers of other tasks, top experts off minus no switch",
    "log-probability of refusing answered questions, top experts on minus random experts on",
)
KEPT = 0.1  # the largest loss of probability that counts as kept
NUMBERS = (2, 4, 8)  # of switched experts, of 48; one is chosen on seeds that are not judged
DRAWS = 10  # random choices of experts per seed
STEPS = {"fast": 300, "full": 1200}


def reproduce(scale: Scale, found: Findings) -> None:
    """Switch experts off by the differential map, at random, and by use; force them on for answered questions."""
    found.baselines += ["no switch", "as many random experts", "the most used experts", "shuffled labels"]
    ready = cache(lambda seed: prepared(seed, STEPS[scale.name]))

    def score(_: str, number: int, seed: int) -> float:
        row = measured(ready(seed), number, seed)
        return min(row["random: refusals"], row["most used: refusals"]) - row["top: refusals"]

    number = choose(found, {"number of experts": NUMBERS}, score)["number of experts"]
    rows = [measured(prepared(seed, STEPS[scale.name]), number, seed) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    shown = ("no switch", "top", "random", "most used", "shuffled")
    groups = {"held-out refusals": {arm: estimate_mean([row[f"{arm}: refusals"] for row in rows]) for arm in shown}}
    found.figures["refusals"] = dots(groups, "share", "Refusals of held-out sensitive questions by switched experts")


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on refusals against random and most used experts, on other tasks, and on experts that are forced on."""
    of = Columns(rows)

    def pairs(ours: str, baseline: str, metric: str) -> Pairs:
        return of.pairs(f"{ours}: {metric}", f"{baseline}: {metric}")

    found.decide(PRIMARY[0], pairs("top", "random", "refusals"), below=0.0)
    found.decide(PRIMARY[1], pairs("top", "most used", "refusals"), below=0.0)
    found.decide(PRIMARY[2], pairs("top", "no switch", "other tasks"), above=-KEPT)
    found.decide(PRIMARY[3], pairs("top on", "random on", "log refusal"), above=0.0)
    found.report("held-out refusals, top minus no switch", pairs("top", "no switch", "refusals"), below=0.0)
    found.report("held-out refusals, shuffled labels minus random", pairs("shuffled", "random", "refusals"))
    for name in ("random", "most used"):
        found.report(f"other tasks, top minus {name}", pairs("top", name, "other tasks"))
    name = "log-probability of refusing answered questions, top experts on minus no switch"
    found.report(name, pairs("top on", "no switch", "log refusal"), above=0.0)
    found.report("refusals of answered questions, top experts on", of("top on: benign refusals"))


class Prepared(NamedTuple):
    """A taught model, its world, and the use of experts on places to look at: [questions, layers, experts]."""

    model: LanguageModel
    world: RefusalWorld
    sensitive: Float[Tensor, "questions layers experts"]
    benign: Float[Tensor, "others layers experts"]


def prepared(seed: int, steps: int) -> Prepared:
    """Teach one model and record which experts it uses."""
    world = refusal_world(seed)
    model = small_mixture(world.rows, seed, experts=16)
    taught = [*world.sensitive, *world.held_sensitive, *world.benign, *world.held_benign, *world.other]
    teach(model, taught, seed, steps, title="refused places")
    sensitive, benign = (
        expert_maps(model, [model.encoder().prompt(row.prompt) for row in rows])
        for rows in (world.sensitive, world.benign)
    )
    return Prepared(model, world, sensitive, benign)


def measured(ready: Prepared, number: int, seed: int) -> dict[str, Any]:
    """Rank the experts, and measure each choice of as many of them."""
    model, world, sensitive, benign = ready
    draw = torch.Generator().manual_seed(seed)
    both = torch.cat([sensitive, benign])
    mixed = both[torch.randperm(len(both), generator=draw)]
    chosen = {
        "no switch": [],
        "top": top_experts(differential_map(sensitive, benign), number),
        "most used": top_experts(both.mean(0), number),
        "shuffled": top_experts(differential_map(mixed[: len(sensitive)], mixed[len(sensitive) :]), number),
    }
    row: dict[str, Any] = {"seed": seed}
    for arm, experts in chosen.items():
        row |= {f"{arm}: {name}": value for name, value in results(model, world, experts, OFF).items()}
    row |= {f"top on: {name}": value for name, value in results(model, world, chosen["top"], ON).items()}
    random = [_random(both.shape[1:], number, draw) for _ in range(DRAWS)]
    for arm, state in (("random", OFF), ("random on", ON)):
        drawn = [results(model, world, experts, state) for experts in random]
        row |= {f"{arm}: {name}": mean(one[name] for one in drawn) for name in drawn[0]}
    return row


def _random(shape: Sequence[int], number: int, draw: torch.Generator) -> list[tuple[int, int]]:
    layers, experts = shape
    return [
        (int(one) // experts, int(one) % experts) for one in torch.randperm(layers * experts, generator=draw)[:number]
    ]


def results(model: LanguageModel, world: RefusalWorld, experts: list[tuple[int, int]], state: int) -> dict[str, float]:
    """Measure a model with experts switched.

    Returns:
        Refusals of held-out questions of both kinds; the mean probability per token of the right answers of copying and
        of answered questions; the mean log-probability of the whole refusal where a question should be answered, nats.
    """
    steering = Steering({}, Shape.of(model), "mote", switches_of(model, experts, state))
    right, wrong = [*world.other, *world.held_benign], [replace(row, answer=REFUSAL) for row in world.held_benign]
    with steered(model, steering):
        return {
            "refusals": refusal_rate(model, world.held_sensitive),
            "benign refusals": refusal_rate(model, world.held_benign),
            "other tasks": float(np.mean([one.probability for one in scored(model, right)])),
            "log refusal": float(np.mean([one.logp.sum() for one in scored(model, wrong)])),
        }


def refusal_rate(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Return the share of questions whose greedy answer is the refusal."""
    answers = generate(
        model, [row.prompt for row in rows], max_new_tokens=len(token_rows(model, [Example("", REFUSAL)])[0]) + 2
    )
    return sum(answer.strip().startswith(REFUSAL[:10]) for answer in answers) / len(rows)
