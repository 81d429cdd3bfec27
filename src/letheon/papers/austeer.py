"""Fine-Grained Activation Steering: Steering Less, Achieving More.

arXiv 2602.04428, 2026-02; ICLR 2026. Full scale in the paper: models of 7 to 27 billion parameters on BoolQ, COPA and
others. Here: a small Llama taught, not to the end, which of two things is larger; pairs of right and wrong answers to
rank units on, validation questions on which every arm chooses its own setting, and test questions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np
import torch

from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.statistics import estimate_mean
from letheon.papers.common.small_llama import UNIT_EMBEDDINGS, small_llama, teach
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.outcome import Scale
from letheon.report.figures import dots
from letheon.steer.apply import steered
from letheon.steer.curve import next_token_logits
from letheon.steer.maps import Displacement
from letheon.steer.method import contrast_states, fit
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast

# The parts that decide, named before the first run.
PRIMARY = (
    "balanced accuracy, austeer minus random units",
    "balanced accuracy, austeer minus the best whole block",
)
THINGS = 26
YES, NO = "yes", "no"
LAYERS, HEADS, WIDTH = 4, 4, 64
GAINS = (0.5, 2.0, 8.0)
GRID = [(site, k, alpha) for site in ("heads", "mlp") for k in (4, 16, 64) for alpha in GAINS]
BLOCK_STRENGTHS = (0.25, 0.5, 1.0, 2.0)
DRAWS = 10  # random choices of units per seed and setting
STEPS = {"fast": 100, "full": 150}  # so few that the model is wrong about some questions


def reproduce(scale: Scale, found: Findings) -> None:
    """Choose settings on validation questions and compare balanced accuracy on test questions."""
    found.baselines += [
        "no steering", "random units with such gains", "mean difference of a layer or a head", "a whole layer's gains",
    ]  # fmt: skip
    rows = [measured(seed, STEPS[scale.name]) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    arms = ("none", "austeer", "random", "block", "constant bias")
    groups = {"balanced accuracy": {arm: estimate_mean([row[arm] for row in rows]) for arm in arms}}
    found.figures["accuracy"] = dots(groups, "share", "Balanced accuracy on test questions of each way to steer")


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on balanced accuracy against random units and against steering of a block."""
    of, name = Columns(rows), "balanced accuracy, austeer minus"
    found.decide(PRIMARY[0], of.pairs("austeer", "random"), above=0.0)
    found.decide(PRIMARY[1], of.pairs("austeer", "block"), above=0.0)
    found.report(f"{name} none", of.pairs("austeer", "none"), above=0.0)
    found.report(f"{name} a constant bias", of.pairs("austeer", "constant bias"), above=0.0)
    found.report(f"{name} random units at its own setting", of.pairs("austeer", "random, same setting"), above=0.0)
    found.report("number of steered scalars", of("k"))


def questions(seed: int) -> list[Example]:
    """Ask of every ordered pair of things whether the first is larger; things are named by words in a hidden order."""
    draw = random.Random(stream_seed(seed, "sizes"))
    names = [f"thing{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:THINGS]]
    size = {name: place for place, name in enumerate(draw.sample(names, len(names)))}
    rows = [
        Example(f"is {one} larger than {two} ?", YES if size[one] > size[two] else NO, id=f"{one} {two}")
        for one, two in permutations(names, 2)
    ]
    return draw.sample(rows, len(rows))


def contrast_of(rows: Sequence[Example]) -> Contrast:
    """Pair every question with its right and with its wrong answer."""
    wrong = [replace(row, answer=NO if row.answer == YES else YES) for row in rows]
    return Contrast(list(rows), wrong)


def measured(seed: int, steps: int) -> dict[str, Any]:
    """Teach one model for a while, choose every arm's setting on validation questions, measure on test questions."""
    rows = questions(seed)
    taught, fitted, chosen, test = rows[:300], rows[300:400], rows[400:520], rows[520:]
    model = small_llama(rows, seed, layers=LAYERS, width=WIDTH, heads=HEADS, embedding_scale=UNIT_EMBEDDINGS)
    teach(model, taught, seed, steps, title="which is larger")
    contrast = contrast_of(fitted)
    ours = [fit(model, contrast, f"austeer:site={site},k={k},alpha={alpha}") for site, k, alpha in GRID]
    draw = torch.Generator().manual_seed(seed)
    units = [[shuffled(one, draw) for _ in range(DRAWS)] for one in ours]
    best = max(range(len(ours)), key=lambda i: balanced(model, chosen, [ours[i]]))
    random_best = max(range(len(units)), key=lambda i: mean_of(model, chosen, units[i]))
    again = [shuffled(ours[random_best], draw) for _ in range(DRAWS)]
    name, block, strength = max(
        whole_blocks(model, contrast), key=lambda one: balanced(model, chosen, [one[1]], one[2])
    )
    return {
        "seed": seed,
        "none": balanced(model, test, []),
        "austeer": balanced(model, test, [ours[best]]),
        "random": mean_of(model, test, again),
        "random, same setting": mean_of(model, test, units[best]),
        "block": balanced(model, test, [block], strength),
        "constant bias": with_bias(model, chosen, test),
        "k": GRID[best][1],
        "settings": [str(GRID[best]), str(GRID[random_best]), f"{name}, {strength}"],
    }


def mean_of(model: LanguageModel, rows: Sequence[Example], steerings: Sequence[Steering]) -> float:
    """Return the mean balanced accuracy over steerings that act one at a time."""
    return float(np.mean([balanced(model, rows, [one]) for one in steerings]))


def whole_blocks(model: LanguageModel, contrast: Contrast) -> Iterator[tuple[str, Steering, float]]:
    """Yield ways to steer a whole block, with their strengths.

    The mean difference is added to a layer, or to a head as in inference-time intervention; or all units of one layer
    get the gains that AUSteer gives to few.
    """
    sites = [Site(layer, "heads") for layer in range(LAYERS)]
    right, wrong = contrast_states(model, contrast, sites, "last")
    for layer, site in enumerate(sites):
        added = [("layer", fit(model, contrast, f"mean_difference:layers={layer}"))]
        shift = right[layer].mean(0) - wrong[layer].mean(0)
        for head in range(HEADS):
            mask = (torch.arange(WIDTH) // (WIDTH // HEADS) == head).float()
            made = Steering({site: Displacement(shift=shift * mask)}, Shape.of(model), "one head")
            added.append((f"head {head}", made))
        for name, one in added:
            yield from ((f"{name} of layer {layer}", one, strength) for strength in BLOCK_STRENGTHS)
        for place, alpha in product(("heads", "mlp"), GAINS):
            gains = fit(model, contrast, f"austeer:site={place},k={WIDTH},alpha={alpha},layers={layer}")
            yield f"gains {alpha} of {place} of layer {layer}", gains, 1.0


def shuffled(steering: Steering, draw: torch.Generator) -> Steering:
    """Move the gains of all layers to random units of the same layers."""
    maps = {
        site: Displacement(gain=one.gain[torch.randperm(one.width, generator=draw)])
        for site, one in steering.maps.items()
        if one.gain is not None
    }
    return replace(steering, maps=maps)


def margins(model: LanguageModel, rows: Sequence[Example]) -> torch.Tensor:
    """Return the logit of yes minus that of no, one number per question."""
    yes, no = (model.encoder().answer(word, end=False)[0][0] for word in (YES, NO))
    logits = next_token_logits(model, [row.prompt for row in rows])
    return logits[:, yes] - logits[:, no]


def balanced(
    model: LanguageModel, rows: Sequence[Example], steerings: Sequence[Steering], strength: float = 1.0
) -> float:
    """Return the mean of the accuracies on questions whose answer is yes and on those whose answer is no."""
    with steered(model, steerings, strength):
        return balanced_accuracy(margins(model, rows), rows)


def balanced_accuracy(found: torch.Tensor, rows: Sequence[Example]) -> float:
    """Return the balanced accuracy of margins whose sign is the answer."""
    truth = torch.tensor([row.answer == YES for row in rows])
    return float(((found > 0)[truth].float().mean() + (found <= 0)[~truth].float().mean()) / 2)


def with_bias(model: LanguageModel, chosen: Sequence[Example], test: Sequence[Example]) -> float:
    """Return the test value where the median margin of the validation questions is subtracted."""
    return balanced_accuracy(margins(model, test) - margins(model, chosen).median(), test)
