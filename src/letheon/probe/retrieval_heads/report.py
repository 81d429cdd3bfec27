"""`letheon probe retrieval-heads`: score the heads, test the scores, mask the best heads, report."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.core.statistics import Estimate, estimate_mean
from letheon.probe.attention_maps import head_mask, heads_shape
from letheon.probe.record import Check, ProbeReport, Table, above_zero, at_least, at_most, halves, layer_head_map
from letheon.probe.retrieval_heads.needles import NEEDLES, Instance, Needle, build_instances
from letheon.probe.retrieval_heads.scoring import Scored, recall_when_masked, score_instances
from letheon.report.plots import heat_map, lines

# A head is a retrieval head from this mean score on, and a strong one from the second on.
RETRIEVAL, STRONG = 0.1, 0.5
RELIABLE = 0.8
# Random control heads are drawn outside this many best heads, or outside a quarter of all heads in small models.
OUTSIDE = 100


@dataclass(frozen=True)
class RetrievalSettings:
    """The prompts and masks of the probe of retrieval heads.

    Attributes:
        lengths: tokens per prompt; may be given several times.
        depths: places of the needle in per cent of the text; may be given several times.
        budget: most tokens per answer.
        masked: number of the best heads to mask; 0 masks none.
        draws: random sets of as many heads, the control of the masks.
        masked_instances: most answered prompts on which masks are tested; the heads are chosen on others.
        seed: seed of the random heads.
    """

    lengths: tuple[int, ...] = (256, 512, 1024, 1900)
    depths: tuple[float, ...] = (0.0, 25.0, 50.0, 75.0, 100.0)
    budget: int = 30
    masked: int = 10
    draws: int = 5
    masked_instances: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.budget, self.draws, self.masked_instances, *self.lengths) < 1 or self.masked < 0:
            raise InputError("budget, draws, masked instances and lengths must be positive", "give numbers from 1 on")
        if not all(0 <= depth <= 100 for depth in self.depths):
            raise InputError(f"depths {self.depths}", "give per cent from 0 to 100")


@dataclass(frozen=True)
class Masking:
    """Recall of held-out answers without a mask, without the best heads, and without as many random heads.

    Attributes:
        plain, top: mean recall.
        random: mean recall per draw of random heads.
        heads: the masked heads, chosen on other prompts.
        effect: recall with the worst draw of random heads masked minus recall without the best heads, by prompt.
    """

    plain: float
    top: float
    random: list[float]
    heads: list[tuple[int, int]]
    effect: Estimate


def random_heads(ranking: Sequence[tuple[int, int]], count: int, draw: random.Random) -> list[tuple[int, int]]:
    """Draw heads from outside the best ones: the best 100, or the best quarter in a model of fewer than 400 heads."""
    outside = list(ranking[min(OUTSIDE, max(count, len(ranking) // 4)) :])
    if len(outside) < count:
        raise InputError(f"{count} random heads asked for, {len(outside)} are left", "mask fewer heads")
    return draw.sample(outside, count)


def mask_top_and_random(
    model: LanguageModel, instances: Sequence[Instance], scored: Scored, settings: RetrievalSettings
) -> Masking | None:
    """Choose the best heads on one half of the answered prompts, and measure recall without them on the other half.

    Random heads are masked beside. With fewer than two answered prompts there is nothing to test on: None.
    """
    fit, test = halves(scored.passed)
    if not test:
        return None
    chosen = [instances[i] for i in _spread(test, settings.masked_instances)]
    ranking, draw = scored.ranking(fit), random.Random(stream_seed(settings.seed, "random heads"))
    sets = [ranking[: settings.masked]]
    sets += [random_heads(ranking, settings.masked, draw) for _ in range(settings.draws)]
    none: Bool[Tensor, "1 layers heads"] = torch.zeros(1, *heads_shape(model), dtype=torch.bool)
    masks = torch.cat([none, *(head_mask(model, heads) for heads in sets)])
    recall = recall_when_masked(model, chosen, masks, budget=settings.budget)
    plain, top, *others = recall.mean(1).tolist()
    worst = recall[2 + min(range(len(others)), key=others.__getitem__)]
    return Masking(plain, top, others, sets[0], estimate_mean((worst - recall[1]).tolist()))


def _spread(items: Sequence[int], most: int) -> list[int]:
    """Choose up to `most` items, evenly spread."""
    step = max(1.0, len(items) / most)
    return [items[int(i * step)] for i in range(min(most, len(items)))]


def probe_retrieval_heads(
    model: LanguageModel,
    haystack: str,
    needles: Sequence[Needle] = NEEDLES,
    settings: RetrievalSettings | None = None,
) -> ProbeReport:
    """Find the retrieval heads of a model, and say how reliable their scores are."""
    started, settings = time.monotonic(), settings or RetrievalSettings()
    instances = build_instances(model, haystack, needles, settings.lengths, settings.depths)
    scored = score_instances(model, instances, settings.budget)
    mean, passed = scored.mean(), scored.passed
    count = [int((mean >= level).sum()) for level in (RETRIEVAL, STRONG)]
    masking = mask_top_and_random(model, instances, scored, settings) if settings.masked else None
    best = scored.ranking()[0]
    headline = (
        f"{count[0]} of {mean.numel()} heads are retrieval heads (score of at least {RETRIEVAL}), {count[1]} of them "
        f"strong; the best is head {best[1]} of layer {best[0]} with {float(mean[best]):.2f}. "
        f"{len(passed)} of {len(instances)} prompts were answered."
    )
    return ProbeReport(
        probe="retrieval-heads",
        model=model.name,
        headline=headline,
        tables=[_best(scored), *([_masks(masking)] if masking else [])],
        checks=_checks(scored, masking),
        figures=_figures(instances, scored, mean),
        values={
            "scores": mean,
            "per instance": {f"{i}-{j}": scored.scores[passed, i, j] for i, j in scored.ranking()[:50]},
            "instances": [
                {"length": one.length, "depth": one.depth, "needle": one.needle, "recall": recall, "response": response}
                for one, recall, response in zip(instances, scored.recalls, scored.responses, strict=True)
            ],
            "masking": masking,
        },
        notes=[] if passed else ["The model answered no prompt: there are no scores to average."],
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _best(scored: Scored) -> Table:
    counts = scored.counts[scored.passed].mean(0) if scored.passed else torch.zeros(scored.counts.shape[1:])
    mean, active = scored.mean(), (scored.scores[scored.passed] > 0).float()
    rows = [
        (f"{layer}-{head}", float(mean[layer, head]), float(counts[layer, head]),
         float(active[:, layer, head].mean()) if len(active) else None)
        for layer, head in scored.ranking()[:15]
    ]  # fmt: skip
    return Table("The best heads", ("layer-head", "score", "counting score", "share of prompts"), list(rows))


def _masks(masking: Masking) -> Table:
    rows = [("no head", masking.plain), (f"the best {len(masking.heads)} heads", masking.top)]
    rows += [(f"random heads, draw {i}", value) for i, value in enumerate(masking.random, 1)]
    return Table("Recall of the needle with heads masked while decoding", ("masked", "ROUGE-1 recall"), list(rows))


def _checks(scored: Scored, masking: Masking | None) -> list[Check]:
    passed = scored.passed
    shuffled = float(scored.shuffled[passed].mean(0).max()) if passed else None
    checks = [
        at_least("share of prompts answered", len(passed) / len(scored.recalls), 0.2),
        at_least("rank correlation of the scores between halves of the prompts", scored.split_half().value, RELIABLE),
        at_most("best score with the needle's tokens permuted in the scoring", shuffled, RETRIEVAL),
    ]
    if masking:
        name = "recall of the worst random mask minus recall without the best heads, other prompts"
        checks.append(above_zero(name, masking.effect))
    return checks


def _figures(instances: Sequence[Instance], scored: Scored, mean: Float[Tensor, "layers heads"]) -> dict[str, str]:
    lengths, depths = sorted({one.length for one in instances}), sorted({one.depth for one in instances})
    table: list[list[float | None]] = []
    for depth in depths:
        cells = [
            [r for one, r in zip(instances, scored.recalls, strict=True) if (one.depth, one.length) == (depth, length)]
            for length in lengths
        ]
        table.append([sum(cell) / len(cell) for cell in cells])
    order = mean.flatten().sort(descending=True).values[:60].tolist()
    down, across = [f"{depth:g} %" for depth in depths], [str(length) for length in lengths]
    return {
        "Score of every head by layer": layer_head_map(mean, "Retrieval score by layer and head", high=1),
        "Scores in falling order": lines(
            {"score": [(float(i), value) for i, value in enumerate(order, 1)]},
            "rank", "score", "Scores in falling order",
        ),
        "Recall of the needle by depth and length": heat_map(
            table, down, across, "Recall of the needle by depth and length of the prompt", low=0, high=1
        ),
    }  # fmt: skip
