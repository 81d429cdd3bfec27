"""Prune a pipeline's memorised images, and measure what that changes beside random masks of equal density.

Every prompt has two images of each model: before, with the found masks pruned, with random masks pruned. Three
comparisons stand beside each other: the change under equal noise; how alike the two images of one model are (replicas
come back under any noise); and how alike images of different prompts are, the level of no relation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.progress import progress
from letheon.core.runs import utc_now, versions
from letheon.forget.edits.memorized_images import (
    Masks,
    density,
    find_mask,
    prune,
    random_mask,
    restore,
)
from letheon.forget.images.pipeline import ImagePipeline, Picture
from letheon.forget.images.prompts import Prompts
from letheon.forget.images.record import BEFORE, PRUNED, RANDOM, PromptChange, PrunedImages, PruneSettings
from letheon.forget.images.similarity import between, between_noises, between_prompts, mean

NOISES = 2  # images per prompt and model
PAPER_PROMPTS = 10


def prune_images(pipeline: ImagePipeline, prompts: Prompts, settings: PruneSettings, seed: int = 0) -> PrunedImages:
    """Prune the pipeline in place, and compare the images of all prompts before and after.

    Raises:
        InputError: no such matrix, a sparsity of no weight, masks that are empty, or see `ImagePipeline.sample`.
    """
    start, model = time.monotonic(), pipeline.denoiser
    first = seed + len(prompts.memorised)  # of the images' noise: another than that in which the masks are found
    masks = _found_masks(pipeline, prompts, settings, seed)
    pictures, randoms = {}, []
    with progress("Images", len(prompts.sampled) * NOISES * (2 + settings.control)) as advance:
        done = 0

        def take() -> list[list[Picture]]:
            nonlocal done
            taken: list[list[Picture]] = []
            for place, prompt in enumerate(prompts.sampled):
                taken.append([])
                for noise in range(NOISES):
                    taken[-1].append(pipeline.sample(prompt, first + place + noise * len(prompts.sampled)))
                    advance(done := done + 1)
            return taken

        with pipeline.counted() as calls:
            pictures[BEFORE] = take()
        for draw in range(settings.control):
            taken_away = prune(model, random_mask(masks, seed + draw))
            randoms.append(take())
            restore(model, taken_away)
        removed = prune(model, masks)
        pictures[PRUNED] = take()
    if randoms:
        pictures[RANDOM] = randoms[0]
    calls_per_image = calls[0] / (len(prompts.sampled) * NOISES)
    weights = sum(weight.numel() for weight in model.parameters())
    return PrunedImages(
        pipeline=pipeline.name,
        kind=type(pipeline.pipe).__name__,
        device=str(pipeline.pipe.device),
        seed=seed,
        settings=settings,
        reference="given" if any(prompts.reference) else "the empty prompt",
        density={name: density({name: mask}) for name, mask in masks.items()},
        share=density(masks),
        share_of_all=sum(int(mask.sum()) for mask in masks.values()) / weights,
        changes=_changes(prompts, pictures, randoms),
        calls=calls_per_image,
        notes=_notes(pipeline, prompts, settings, calls_per_image),
        seconds=time.monotonic() - start,
        date=utc_now(),
        versions=versions(),
        pictures=pictures,
        removed=removed,
    )


def _found_masks(pipeline: ImagePipeline, prompts: Prompts, settings: PruneSettings, seed: int) -> Masks:
    model, given = pipeline.denoiser, settings
    with progress("Activations", 2 * len(prompts.memorised)) as advance:
        done = 0

        def sample(prompt: str, number: int) -> Tensor:
            nonlocal done
            advance(done := done + 1)
            return pipeline.sample(prompt, seed + number)

        masks = find_mask(
            model,
            sample,
            prompts.memorised,
            prompts.reference,
            modules=given.module_suffix,
            steps=given.steps,
            sparsity=given.sparsity,
            ratio=given.ratio,
        )
    if not any(bool(mask.any()) for mask in masks.values()):
        raise InputError(f"no weight is masked in more than {given.ratio:.0%} of the steps", "give a lower --ratio")
    return masks


def _changes(
    prompts: Prompts, pictures: Mapping[str, list[list[Picture]]], randoms: list[list[list[Picture]]]
) -> list[PromptChange]:
    pruned, others = between(pictures[BEFORE], pictures[PRUNED]), between_prompts(pictures[BEFORE])
    of_draws = [between(pictures[BEFORE], taken) for taken in randoms]
    noises = {name: between_noises(taken) for name, taken in pictures.items()}
    if randoms:
        noises[RANDOM] = [mean(values) for values in zip(*map(between_noises, randoms), strict=True)]
    return [
        PromptChange(
            prompt,
            "memorised" if place < len(prompts.memorised) else "kept",
            pruned[place],
            mean([values[place] for values in of_draws]),
            {name: values[place] for name, values in noises.items()},
            others[place],
        )
        for place, prompt in enumerate(prompts.sampled)
    ]


def _notes(pipeline: ImagePipeline, prompts: Prompts, settings: PruneSettings, calls: float) -> list[str]:
    notes = []
    if len(prompts.memorised) < PAPER_PROMPTS:
        notes.append(
            f"{len(prompts.memorised)} memorised prompts were given; the paper finds its masks from {PAPER_PROMPTS}"
        )
    if not prompts.kept:
        notes.append("no kept prompts were given (--kept), so nothing here shows what the pruning costs")
    if not settings.control:
        notes.append(
            "no random masks were measured (--control 0), so nothing here tells the found masks from any others"
        )
    if calls > settings.sampler_steps + 1:  # some schedulers call it once more
        notes.append(
            f"{calls:g} calls of the model make an image of {settings.sampler_steps} steps: the masks are of the first "
            f"{settings.steps} calls, which are fewer steps"
        )
    if cut := pipeline.cut(prompts.sampled):
        notes.append(f"longer than the text encoder reads, which sees their beginning alone: {cut} of the prompts")
    if pipeline.blanked:
        notes.append(
            f"the pipeline's own safety checker blanked {pipeline.blanked} images; they are left out of the means"
        )
    return notes
