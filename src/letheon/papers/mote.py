"""Mixture of Tunable Experts: Behavior Modification of DeepSeek-R1 at Inference Time.

arXiv 2502.11096, 2025-02. Full scale in the paper: DeepSeek-R1. Here: a small Mixtral (3 layers, 8 experts, 2 used)
taught templated questions that are refused for some places, and a task of copying. Experts are ranked on some of the
refused places and switched off on held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.statistics import estimate_mean
from letheon.papers.common.small_llama import accuracy, teach
from letheon.papers.common.steering_worlds import REFUSAL, RefusalWorld, refusal_world, small_mixture
from letheon.papers.kit.findings import Findings, Pairs, mean
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
    "accuracy of copying, top experts off minus most used experts off",
)
EXPERTS = 3  # switched, of 24
DRAWS = 10  # random choices of experts per seed
STEPS = {"fast": 300, "full": 1200}


def reproduce(scale: Scale, found: Findings) -> None:
    """Switch experts off by the differential map, at random, and by use; force them on for answered questions."""
    found.baselines += ["no switch", f"{EXPERTS} random experts", "the most used experts", "shuffled labels"]
    rows = [measured(seed, STEPS[scale.name]) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    shown = ("no switch", "top", "random", "most used", "shuffled")
    groups = {"held-out refusals": {arm: estimate_mean([row[f"{arm}: refusals"] for row in rows]) for arm in shown}}
    found.figures["refusals"] = dots(groups, "share", "Refusals of held-out sensitive questions by switched experts")


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on held-out refusals against random and most used experts, and on what another task keeps."""

    def pairs(ours: str, baseline: str, metric: str) -> Pairs:
        return Pairs([row[f"{baseline}: {metric}"] for row in rows], [row[f"{ours}: {metric}"] for row in rows])

    found.decide(PRIMARY[0], pairs("top", "random", "refusals"), below=0.0)
    found.decide(PRIMARY[1], pairs("top", "most used", "refusals"), below=0.0)
    found.decide(PRIMARY[2], pairs("top", "most used", "copying"), above=0.0)
    found.report("held-out refusals, top minus no switch", pairs("top", "no switch", "refusals"), below=0.0)
    found.report("held-out refusals, shuffled labels minus random", pairs("shuffled", "random", "refusals"))
    found.report(
        "benign refusals, forced on minus no switch", pairs("forced on", "no switch", "benign refusals"), above=0.0
    )
    found.report("copying, top minus no switch", pairs("top", "no switch", "copying"))


def measured(seed: int, steps: int) -> dict[str, Any]:
    """Teach one model, rank its experts, and measure each choice of experts."""
    world = refusal_world(seed)
    model = small_mixture(world.rows, seed)
    taught = [*world.sensitive, *world.held_sensitive, *world.benign, *world.held_benign, *world.other]
    teach(model, taught, seed, steps, title="refused places")
    sensitive, benign = (
        expert_maps(model, [model.encoder().prompt(row.prompt) for row in rows])
        for rows in (world.sensitive, world.benign)
    )
    draw = torch.Generator().manual_seed(seed)
    both = torch.cat([sensitive, benign])
    mixed = both[torch.randperm(len(both), generator=draw)]
    chosen = {
        "no switch": [],
        "top": top_experts(differential_map(sensitive, benign), EXPERTS),
        "most used": top_experts(both.mean(0), EXPERTS),
        "shuffled": top_experts(differential_map(mixed[: len(sensitive)], mixed[len(sensitive) :]), EXPERTS),
    }
    row: dict[str, Any] = {"seed": seed}
    for arm, experts in chosen.items():
        row |= {f"{arm}: {name}": value for name, value in results(model, world, experts, OFF).items()}
    random = [_random(both.shape[1:], draw) for _ in range(DRAWS)]
    drawn = [results(model, world, experts, OFF) for experts in random]
    row |= {f"random: {name}": mean(one[name] for one in drawn) for name in drawn[0]}
    row |= {f"forced on: {name}": value for name, value in results(model, world, chosen["top"], ON).items()}
    return row


def _random(shape: Sequence[int], draw: torch.Generator) -> list[tuple[int, int]]:
    layers, experts = shape
    return [
        (int(one) // experts, int(one) % experts) for one in torch.randperm(layers * experts, generator=draw)[:EXPERTS]
    ]


def results(model: LanguageModel, world: RefusalWorld, experts: list[tuple[int, int]], state: int) -> dict[str, float]:
    """Measure a model with experts switched: refusals of held-out questions of both kinds, and copying."""
    steering = Steering({}, Shape.of(model), "mote", switches_of(model, experts, state))
    with steered(model, steering):
        return {
            "refusals": refusal_rate(model, world.held_sensitive),
            "benign refusals": refusal_rate(model, world.held_benign),
            "copying": accuracy(model, world.other),
        }


def refusal_rate(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Return the share of questions whose greedy answer is the refusal."""
    answers = generate(
        model, [row.prompt for row in rows], max_new_tokens=len(token_rows(model, [Example("", REFUSAL)])[0]) + 2
    )
    return sum(answer.strip().startswith(REFUSAL[:10]) for answer in answers) / len(rows)
