"""Memorized Images in Diffusion Models share a Subspace that can be Located and Deleted.

arXiv 2406.18566, 2024-06; Chavhan et al..

Measured here: a small diffusion model of digits is trained on ten classes and on 24 special prompts, each tied to one
duplicated image. Masks are found from twelve special prompts and judged on the twelve others, against random masks
(as many weights of every row) and masks from class prompts, over the whole sweep of sparsities. Masks of equal density
do unequal damage, so arms are compared where the held-out prompts have lost equally much similarity, each at the
sparsity that it takes for that: the better mask is the one that leaves better class samples. Similarity is the cosine
with the tied image, both without the mean image. After pruning, a search around each prompt's embedding (arXiv
2507.16880) tries to bring the images back; beside it stands the same search for images that no prompt is tied to.
Chosen after a look at seed 9, which is none of the three: that the prompt is added to the denoiser's stream (where it
scaled and shifted the feed-forwards' inputs, no mask up to 10 % did anything), and the sparsities above 10 %.
The claim is against random masks. Masks from class prompts say whether the weights are memorisation's own.
Full scale in the paper: Stable Diffusion v1 with 500 memorised captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from letheon.forget.edits.memorized_images import (
    Norms,
    density,
    iou,
    prune,
    random_mask,
    record_norms,
    restore,
    retrigger,
    step_masks,
    union,
)
from letheon.papers.common.digits_ddpm import (
    CLASSES,
    Denoiser,
    Digits,
    Judge,
    denoising_loss,
    load_digits,
    prompts_of,
    sample,
    similarity,
    train,
)
from letheon.papers.kit.findings import Findings, Pairs, Threshold, mean
from letheon.papers.kit.levels import common_level, first_crossing
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

SPECIAL, FOUND_FROM = 24, 12
SPARSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
ARMS = ("memorised", "random", "classes")
DRAWS = 4  # noises of each prompt, where masks are found and where they are judged
PER_CLASS = 20
REPLAYED = 0.05  # mean squared error under which a sample counts as the tied image, in pixels from -1 to 1
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97)  # similarities at which arms may be compared
SEARCHED = 6  # held-out prompts around which the search runs
RADIUS = 0.5


class Measured(NamedTuple):
    """One model: replay of images for held-out prompts, and quality of class samples."""

    similarity: float
    replayed: float
    accuracy: float
    frechet: float


class Trial(NamedTuple):
    """One seed: the unpruned model, every arm at every sparsity, overlaps of masks, and similarity after searches."""

    before: Measured
    arms: dict[tuple[str, float], Measured]
    overlaps: dict[tuple[str, float], float]
    density: dict[float, float]
    searches: dict[tuple[str, float], float]


PRIMARY = (
    "class accuracy at equal similarity, memorised minus random",
    "Frechet distance at equal similarity, memorised minus random",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: about half a minute per seed."""
    found.baselines += ["random masks of equal density in every row", "masks from class prompts"]
    trials = {seed: trial(seed, scale) for seed in scale.seeds}
    judge(found, trials)
    found.figures |= figures(trials)
    found.rows += [row for seed, one in trials.items() for row in _rows(seed, one)]


# One seed


def trial(seed: int, scale: Scale) -> Trial:
    """Train, find masks from half of the special prompts and from classes, prune, measure, search, restore."""
    digits = load_digits(seed, SPECIAL)
    model = train(digits, seed, steps=8000 if scale.name == "full" else 1500)
    judge = Judge(digits)
    order = torch.randperm(SPECIAL, generator=torch.Generator().manual_seed(seed)).tolist()
    special = [CLASSES + number for number in order]
    seen, held_out = special[:FOUND_FROM], special[FOUND_FROM:]
    classes = [number % CLASSES for number in range(FOUND_FROM)]
    null = norms(model, [digits.null] * FOUND_FROM)
    of = {name: norms(model, prompts) for name, prompts in (("seen", seen), ("other", held_out), ("classes", classes))}
    result = Trial(measured_model(model, digits, judge, held_out), {}, {}, {}, {})
    for sparsity in SPARSITIES:
        steps = {name: step_masks(model, found, null, sparsity) for name, found in of.items()}
        masks = {name: {layer: union(parts) for layer, parts in found.items()} for name, found in steps.items()}
        result.density[sparsity] = density(masks["seen"])
        result.overlaps["memorised, other prompts", sparsity] = iou(masks["seen"], masks["other"])
        result.overlaps["memorised, classes", sparsity] = iou(masks["seen"], masks["classes"])
        arms = {"memorised": masks["seen"], "random": random_mask(masks["seen"], seed), "classes": masks["classes"]}
        for arm, mask in arms.items():
            removed = prune(model, mask)
            result.arms[arm, sparsity] = measured_model(model, digits, judge, held_out)
            if arm == "memorised":
                result.searches["tied", sparsity] = searched(model, digits, held_out, seed)
                result.searches["not tied", sparsity] = searched(model, digits, held_out, seed, tied=False)
            restore(model, removed)
    return result


def norms(model: Denoiser, prompts: Sequence[int]) -> Norms:
    """Activation norms over the first ten sampler steps of each prompt."""
    return record_norms(model, lambda number, seed: sample(model, prompts_of(model, [number], DRAWS), seed), prompts)


def measured_model(model: Denoiser, digits: Digits, judge: Judge, held_out: Sequence[int]) -> Measured:
    """Samples of the held-out special prompts against their images, and of the classes against real digits."""
    replays = sample(model, prompts_of(model, held_out, DRAWS), seed=1)
    tied = _tied(digits, held_out).repeat_interleave(DRAWS, 0)
    ordinary = sample(model, prompts_of(model, range(CLASSES), PER_CLASS), seed=2)
    return Measured(
        float(similarity(digits, replays, tied).mean()),
        float(((replays - tied).square().mean(-1) < REPLAYED).float().mean()),
        judge.accuracy(ordinary, torch.arange(CLASSES).repeat_interleave(PER_CLASS)),
        judge.frechet(ordinary),
    )


def _tied(digits: Digits, prompts: Sequence[int]) -> Tensor:
    return digits.special[[number - CLASSES for number in prompts]]


def searched(model: Denoiser, digits: Digits, held_out: Sequence[int], seed: int, *, tied: bool = True) -> float:
    """Mean similarity of samples to the wanted images after a search around each prompt's embedding.

    The wanted image is the prompt's own, or one of the classes' that no prompt is tied to.
    """
    chosen = held_out[:SEARCHED]
    wanted = _tied(digits, chosen) if tied else digits.images[:SEARCHED]
    found = []
    for number, image in zip(chosen, wanted, strict=True):
        generator = torch.Generator().manual_seed(seed)

        def loss(embedding: Tensor, image: Tensor = image, generator: torch.Generator = generator) -> Tensor:
            return denoising_loss(model, image.expand(64, -1), embedding.expand(64, -1), generator)

        embedding = retrigger(loss, prompts_of(model, [number])[0], radius=RADIUS, steps=25)
        samples = sample(model, embedding.expand(DRAWS, -1), seed=1)
        found.append(float(similarity(digits, samples, image.expand(DRAWS, -1)).mean()))
    return sum(found) / len(found)


# The verdict


def judge(found: Findings, trials: Mapping[int, Trial]) -> None:
    """Decide on the quality of class samples at equal loss of similarity, against random masks; report class masks."""
    runs = list(trials.values())
    found.measured |= {
        "before": _means([one.before for one in runs]),
        "density of the masks, mean": {f"{s:.0%}": fmean([one.density[s] for one in runs]) for s in SPARSITIES},
        "IoU of masks, mean": {
            f"{pair}, {s:.0%}": fmean([one.overlaps[pair, s] for one in runs]) for pair, s in sorted(runs[0].overlaps)
        },
        "similarity after a search around the embedding, mean": {
            f"{image}, {s:.0%}": fmean([one.searches[image, s] for one in runs])
            for image, s in sorted(runs[0].searches)
        },
    }
    for arm in ARMS:
        found.measured[arm] = {f"{s:.0%}": _means([one.arms[arm, s] for one in runs]) for s in SPARSITIES}
    similarities = {arm: [_path(one, arm, "similarity") for one in runs] for arm in ARMS}
    level = common_level((path for paths in similarities.values() for path in paths), LEVELS)
    found.measured["compared at similarity"] = level

    def there(arm: str, name: str) -> list[float | None]:
        paths = zip(similarities[arm], (_path(one, arm, name) for one in runs), strict=True)
        return [None if level is None else first_crossing(*path, level) for path in paths]

    for words, name, threshold in (
        ("class accuracy", "accuracy", Threshold(above=0.0)),
        ("Frechet distance", "frechet", Threshold(below=0.0)),
    ):
        found.measured[f"{words} there"] = {arm: mean(there(arm, name)) for arm in ARMS}
        for other, add in (("random", found.decide), ("classes", found.report)):
            part = f"{words} at equal similarity, memorised minus {other}"
            add(part, Pairs(there(other, name), there("memorised", name)), **threshold)


def _path(one: Trial, arm: str, name: str) -> list[float]:
    """A measurement of one arm before pruning and at every sparsity, in rising order."""
    return [getattr(measured, name) for measured in (one.before, *(one.arms[arm, s] for s in SPARSITIES))]


def _means(found: Sequence[Measured]) -> dict[str, float]:
    return {name: fmean([getattr(one, name) for one in found]) for name in Measured._fields}


def _rows(seed: int, one: Trial) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"seed": seed, "arm": "before", "sparsity": 0.0, **one.before._asdict()}]
    for (arm, sparsity), found in one.arms.items():
        rows.append({"seed": seed, "arm": arm, "sparsity": sparsity, **found._asdict()})
    return rows


def figures(trials: Mapping[int, Trial]) -> dict[str, str]:
    """Class accuracy over similarity, each arm along the sparsities; overlaps of masks over the sparsity."""
    runs = list(trials.values())

    def point(found: Sequence[Measured]) -> tuple[float, float]:
        return fmean([one.similarity for one in found]), fmean([one.accuracy for one in found])

    start = point([one.before for one in runs])
    curves = {arm: [start, *(point([one.arms[arm, s] for one in runs]) for s in SPARSITIES)] for arm in ARMS}
    pairs = sorted({pair for pair, _ in runs[0].overlaps})
    overlaps = {pair: [(s, fmean([one.overlaps[pair, s] for one in runs])) for s in SPARSITIES] for pair in pairs}
    across, words = "similarity of held-out memorised prompts", "Class accuracy over similarity, by mask"
    return {
        "trade-off": lines(curves, across, "accuracy of class samples", words, falling=True),
        "overlap": lines(overlaps, "sparsity", "IoU of masks", "Overlap of masks over the sparsity"),
    }
