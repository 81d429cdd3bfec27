"""`letheon probe post-training`: compare a post-trained model with its base in four respects."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, has_down_projection
from letheon.core.statistics import Estimate, estimate_mean
from letheon.probe.directions import (
    Contrast,
    TruthStates,
    cosine,
    prompt_states,
    refusal_direction,
    split_half_of,
    transfer,
    truth_states,
)
from letheon.probe.post_training.confidence import entropy_neurons, large_neurons, last_mlp, overlap
from letheon.probe.post_training.localisation import answer_gaps, binned, matched_pairs, patching_map, pearson
from letheon.probe.record import Cell, Check, ProbeReport, Table, above_zero, at_least, at_most, halves
from letheon.probe.statements import Statement, balanced, built_in
from letheon.report.plots import heat_map, lines

__all__ = ["Contrast", "PostTrainingSettings", "probe_post_training"]

RANDOM = 20  # random directions, shuffles of labels or sets of neurons per control


@dataclass(frozen=True)
class PostTrainingSettings:
    """The size of the comparison with the base.

    Attributes:
        items: most statements per topic, half of them true.
        layer: layer of the directions; none takes the middle of the model.
        pairs: true and false statements for the maps of knowledge; 0 leaves the maps out, which are the slow part.
        stride: distance of the layers in the maps.
        seed: seed of draws.
    """

    items: int = 40
    layer: int | None = None
    pairs: int = 6
    stride: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.items < 4 or self.pairs < 0 or self.stride < 1:
            raise InputError("items, pairs or stride out of range", "items from 4, stride from 1 on")


@dataclass(frozen=True)
class Directions:
    """Truth and refusal in both models.

    Attributes:
        truth, refusal: cosine of the two models' directions per layer.
        truth_halves, refusal_halves: cosine of the directions of two halves of the data in the post-trained model.
        accuracies: (source of the direction, target) -> accuracy per topic that was left out.
        shuffled: accuracy of directions of shuffled labels, mean over draws.
        random: mean |cosine| of random directions.
    """

    truth: list[float]
    refusal: list[float]
    truth_halves: list[float]
    refusal_halves: list[float]
    accuracies: dict[str, dict[str, float]]
    shuffled: float
    random: float


def compare_directions(
    post: LanguageModel,
    base: LanguageModel,
    topics: Mapping[str, Sequence[Statement]],
    contrast: Contrast,
    layer: int,
    seed: int,
) -> Directions:
    """Compute both models' directions at every layer, and how they transfer at one.

    Raises:
        InputError: the models differ in width or depth.
    """
    if post.width != base.width or len(blocks(post.base())) != len(blocks(base.base())):
        raise InputError(f"{post.name} and {base.name} differ in width or layers", "give a model and its own base")
    truths = {"post": truth_states(post, topics), "base": truth_states(base, topics)}
    prompts = {name: (prompt_states(one, contrast.refused), prompt_states(one, contrast.answered))
               for name, one in (("post", post), ("base", base))}  # fmt: skip
    layers = range(len(truths["post"].states))
    refusals = {name: [refusal_direction(a[i], b[i]) for i in layers] for name, (a, b) in prompts.items()}
    generator = torch.Generator().manual_seed(seed)
    true = truths["post"]
    mixed = [true.labels[torch.randperm(len(true.labels), generator=generator)] for _ in range(RANDOM)]
    shuffled = [_mean(transfer(TruthStates(true.states, one, true.topics), true, layer).values()) for one in mixed]
    noise = torch.randn(2, RANDOM, post.width, generator=generator)
    return Directions(
        truth=[cosine(truths["post"].direction(i), truths["base"].direction(i)) for i in layers],
        refusal=[cosine(refusals["post"][i], refusals["base"][i]) for i in layers],
        truth_halves=[truths["post"].split_half(i) for i in layers],
        refusal_halves=[split_half_of(prompts["post"][0][i], prompts["post"][1][i]) for i in layers],
        accuracies={f"{a} on {b}": transfer(truths[a], truths[b], layer) for a in truths for b in truths},
        shuffled=_mean(shuffled),
        random=float(torch.nn.functional.cosine_similarity(noise[0], noise[1], dim=-1).abs().mean()),
    )


def _mean(values: Any) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


@dataclass(frozen=True)
class Maps:
    """Maps of knowledge [layers, tokens], with states of the same model or of the other one.

    Attributes:
        pairs: number of pairs.
        halves: Pearson's r of the post-trained model's maps of two halves of the pairs; None with one pair.
        gaps: per pair how much more the post-trained model says TRUE of the true statement, logits.
    """

    post: Float[Tensor, "layers tokens"]
    base: Float[Tensor, "layers tokens"]
    base_into_post: Float[Tensor, "layers tokens"]
    post_into_base: Float[Tensor, "layers tokens"]
    pairs: int
    halves: float | None
    gaps: list[float]

    def correlations(self) -> dict[str, float | None]:
        """Compute Pearson's r of the maps, raw and binned as in the paper."""
        return {
            "post and base, raw": pearson(self.post, self.base),
            "post and base, binned": pearson(binned(self.post), binned(self.base)),
            "base into post, and post": pearson(self.base_into_post, self.post),
            "post into base, and base": pearson(self.post_into_base, self.base),
        }


def knowledge_maps(
    post: LanguageModel, base: LanguageModel, topics: Mapping[str, Sequence[Statement]], settings: PostTrainingSettings
) -> Maps | None:
    """Compute the maps on the topic with the most matching pairs; None if there are no pairs."""
    found = [matched_pairs(post, rows, settings.pairs) for rows in topics.values()]
    pairs = max(found, key=len)
    if not pairs:
        return None
    stride, parts = settings.stride, [half for half in halves(pairs) if half]
    own = [patching_map(post, half, stride=stride) for half in parts]
    whole = sum(one * (len(half) / len(pairs)) for one, half in zip(own, parts, strict=True))
    return Maps(
        torch.as_tensor(whole),
        patching_map(base, pairs, stride=stride),
        patching_map(post, pairs, source=base, stride=stride),
        patching_map(base, pairs, source=post, stride=stride),
        len(pairs),
        pearson(*own) if len(own) == 2 else None,
        answer_gaps(post, pairs),
    )


def neuron_overlap(post: LanguageModel, base: LanguageModel, seed: int) -> tuple[float, list[float]] | None:
    """Compute the overlap of both models' entropy neurons, and that of each draw of random neurons of large norm.

    None where the last layer is a mixture of experts, whose neurons have no single output matrix.
    """
    if not all(has_down_projection(blocks(one.base())[-1]) for one in (post, base)):
        return None
    draw, sets, random_sets = random.Random(seed), [], []
    for model in (post, base):
        out, head = last_mlp(model)
        sets.append(entropy_neurons(out, head))
        large = large_neurons(out).tolist()
        random_sets.append([set(draw.sample(large, len(sets[-1]))) for _ in range(RANDOM)])
    return overlap(*sets), [overlap(a, b) for a, b in zip(*random_sets, strict=True)]


def probe_post_training(
    post: LanguageModel,
    base: LanguageModel,
    topics: Mapping[str, Sequence[Statement]] | None = None,
    contrast: Contrast | None = None,
    settings: PostTrainingSettings | None = None,
) -> ProbeReport:
    """Compare a post-trained model with its base: knowledge, truth, refusal and confidence."""
    started, settings = time.monotonic(), settings or PostTrainingSettings()
    depth = len(blocks(post.base()))
    layer = depth // 2 if settings.layer is None else settings.layer
    if not 0 <= layer < depth:
        raise InputError(f"layer {layer} asked for, the model has {depth}", f"use 0 to {depth - 1}")
    chosen = {name: balanced(rows, settings.items, settings.seed) for name, rows in (topics or built_in()).items()}
    found = compare_directions(post, base, chosen, contrast or Contrast(), layer, settings.seed)
    maps = knowledge_maps(post, base, topics or built_in(), settings) if settings.pairs else None
    neurons = neuron_overlap(post, base, settings.seed)
    headline = (
        f"At layer {layer} of {depth} the truth directions of both models have a cosine of {found.truth[layer]:.2f}, "
        f"the refusal directions {found.refusal[layer]:.2f} (halves of the data: {found.truth_halves[layer]:.2f} and "
        f"{found.refusal_halves[layer]:.2f})."
        + (f" Entropy neurons overlap by {neurons[0]:.0%} (random: {_mean(neurons[1]):.0%})." if neurons else "")
    )
    notes = [] if maps or not settings.pairs else ["No statements matched in length and last word: no maps."]
    notes += [] if neurons else ["The last layer is a mixture of experts: no entropy neurons."]
    rows: list[tuple[Cell, ...]] = [
        (name, *values.values(), _mean(values.values())) for name, values in found.accuracies.items()
    ]
    tables = [
        Table(
            "Accuracy of the truth direction on a topic that it was not fitted on",
            ("direction on states", *chosen, "mean"),
            list(rows),
        ),
    ]
    if maps:
        title = f"Correlation of the maps of knowledge ({maps.pairs} pairs)"
        tables.append(Table(title, ("maps", "Pearson's r"), list(maps.correlations().items())))
    return ProbeReport(
        probe="post-training",
        model=post.name,
        base=base.name,
        headline=headline,
        tables=tables,
        checks=_checks(found, layer, maps, beyond_random(*neurons) if neurons else None),
        figures=_figures(found, maps, settings.stride),
        values={"directions": found, "maps": maps, "entropy neurons": neurons[0] if neurons else None,
                "random neurons": neurons[1] if neurons else None},
        notes=notes,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def beyond_random(neurons: float, draws: Sequence[float]) -> Estimate:
    """Estimate an overlap minus that of random neurons, with the 95 % interval of the random draws."""
    ends = torch.tensor(draws).quantile(torch.tensor([0.975, 0.025])).tolist()
    return Estimate(neurons - _mean(draws), neurons - ends[0], neurons - ends[1], len(draws))


def _checks(found: Directions, layer: int, maps: Maps | None, neurons: Estimate | None) -> list[Check]:
    own = _mean(found.accuracies["post on post"].values())
    checks = [
        at_least("cosine of the truth directions of two halves", found.truth_halves[layer], 0.5),
        at_least("cosine of the refusal directions of two halves", found.refusal_halves[layer], 0.5),
        at_least("accuracy of the truth direction on a topic left out", own, 0.6),
        at_most("distance from chance of the direction of shuffled labels", abs(found.shuffled - 0.5), 0.15),
        at_most("mean |cosine| of random directions", found.random, 0.2),
    ]
    if maps:
        gaps = estimate_mean(maps.gaps)
        checks.append(above_zero("logit of TRUE minus FALSE, true statements minus false ones, by pair", gaps))
        checks.append(at_least("Pearson's r of the maps of two halves of the pairs", maps.halves, 0.5))
    return checks + ([above_zero("overlap of entropy neurons minus that of random ones", neurons)] if neurons else [])


def _figures(found: Directions, maps: Maps | None, stride: int) -> dict[str, str]:
    curves = {"truth": found.truth, "refusal": found.refusal, "truth, halves": found.truth_halves,
              "refusal, halves": found.refusal_halves}  # fmt: skip
    drawn = {
        "Cosine of the two models' directions by layer, and of halves of the data": lines(
            {name: [(float(i), value) for i, value in enumerate(values)] for name, values in curves.items()},
            "layer", "cosine", "Cosine of truth and refusal directions by layer",
        )
    }  # fmt: skip
    if maps:
        for name, values in (("post-trained", maps.post), ("base", maps.base)):
            low, high = float(values.min()), float(values.max())
            down, across = [str(i * stride) for i in range(len(values))], [str(i) for i in range(values.shape[1])]
            drawn[f"Logit of TRUE minus FALSE, {name}: patched layer (down) and token (across)"] = heat_map(
                values.tolist(),
                down,
                across,
                f"Map of knowledge of the {name} model",
                low=low,
                high=max(high, low + 1e-6),
            )
    return drawn
