"""Memorised images: find the feed-forward weights by which a diffusion model replays training images, and prune them.

No entry of the register: requests and language models are about text, this is about images. `letheon prune-images`
(`letheon.forget.images`) does it to a pipeline of diffusers; here are the functions.

    from letheon.forget.edits.memorized_images import prune_memorized, restore
    sample = lambda prompt, seed: pipe(prompt, generator=torch.Generator("cuda").manual_seed(seed))
    removed = prune_memorized(pipe.unet, sample, memorized_prompts)     # ten prompts; in place
    restore(pipe.unet, removed)                                         # back to the last bit

The masks are single weights, chosen for each output row: no columns and no neurons. Works on every module whose named
matrices are linear: `ff.net.2` of a diffusers U-Net, `mlp.down_proj` of a Llama.

Paper:   Chavhan et al., Memorized Images in Diffusion Models share a Subspace that can be Located and Deleted,
         arXiv 2406.18566; the details are those of the authors' code for ConceptPrune, arXiv 2405.19237.
Differs: matrices are found and matched by name, not by the order in which they are called; sampling ends after the
         last step that is looked at. Finding Dori (arXiv 2507.16880) shows that small changes of the text's embedding
         bring pruned images back: run `retrigger` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import on_inputs

FF_OUT = "ff.net.2"  # the matrix after the gate; ff.net.0 is GEGLU's own
STEPS, SPARSITY, RATIO = 10, 0.01, 0.0  # first sampler steps; share of a row; share of the steps (published scripts)

Sample = Callable[[Any, int], object]  # runs the whole sampler on one prompt, with the noise of one seed
Masks = dict[str, Tensor]  # matrix name -> [out, in], true where a weight goes


# The method, on tensors ---------------------------------------------------------------------------------------------


def unit_row_norms(activations: Float[Tensor, "rows units"]) -> Float[Tensor, " units"]:
    """‖column‖₂ after every row is scaled to length 1: how steadily a unit dominates, whatever a token's energy."""
    return nn.functional.normalize(activations.float(), dim=-1).square().sum(0).sqrt()


def importance(weight: Float[Tensor, "out units"], norms: Float[Tensor, " units"]) -> Float[Tensor, "out units"]:
    """Wanda's score |W| · A."""
    return weight.float().abs() * norms


def step_mask(
    target: Float[Tensor, "out units"], reference: Float[Tensor, "out units"], sparsity: float = SPARSITY
) -> Bool[Tensor, "out units"]:
    """The top int(s · units) of each row by the target's score, where that also exceeds the reference's."""
    count = int(sparsity * target.shape[1])
    top = torch.zeros_like(target, dtype=torch.bool)
    top.scatter_(1, target.topk(count, dim=1).indices, True)
    return top & (target > reference)


def union(masks: Bool[Tensor, "steps out units"], ratio: float = RATIO) -> Bool[Tensor, "out units"]:
    """Mask the weights that are masked in more than `ratio` of the steps; 0 is the plain union."""
    return masks.sum(0) > ratio * len(masks)


def iou(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Intersection over union of two masks, over all matrices; 0 if both are empty."""
    both = sum(int((first[name] & second[name]).sum()) for name in first)
    either = sum(int((first[name] | second[name]).sum()) for name in first)
    return both / either if either else 0.0


def density(masks: Mapping[str, Tensor]) -> float:
    """Share of the matrices' weights that are masked."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def random_mask(masks: Mapping[str, Tensor], seed: int) -> Masks:
    """The control: as many weights per row as each mask has, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, mask in masks.items():
        order = torch.rand(mask.shape, generator=generator).argsort(1).argsort(1)
        drawn[name] = order.to(mask.device) < mask.sum(1, keepdim=True)
    return drawn


# On a model ---------------------------------------------------------------------------------------------------------


def matrices(model: nn.Module, modules: str = FF_OUT) -> dict[str, nn.Linear]:
    """The linear modules whose names end with `modules`.

    Raises:
        InputError: there is none.
    """
    found = {n: m for n, m in model.named_modules() if f".{n}".endswith(f".{modules}") and isinstance(m, nn.Linear)}
    if not found:
        raise InputError(
            f"no linear module of {type(model).__name__} is called *.{modules}", "see the names with named_modules()"
        )
    return found


def check_sparsity(layers: Mapping[str, nn.Linear], sparsity: float) -> None:
    """Raise an `InputError` if the share of a row is no weight of some matrix, or all of them."""
    for name, layer in layers.items():
        if not 1 <= int(sparsity * layer.in_features) < layer.in_features:
            raise InputError(
                f"sparsity {sparsity} of {layer.in_features} inputs of {name} is {sparsity * layer.in_features:g}",
                "choose a share that is at least one weight of a row and not all",
            )


class _Enough(Exception):
    """Raised to leave a sampler after the last step that is recorded."""


@dataclass(frozen=True)
class Norms:
    """Unit-row norms at every matrix, [steps, units] each, and the number of rows (tokens) behind each of them."""

    values: Mapping[str, Tensor]
    rows: Mapping[str, list[int]]


@torch.no_grad()
def record_norms(
    model: nn.Module, sample: Sample, prompts: Sequence[Any], modules: str = FF_OUT, steps: int = STEPS
) -> Norms:
    """Norms at the first sampler steps, over all prompts, tokens and both guidance branches.

    The sampler must call the model once a step; prompt i is run with the noise of seed i.

    Raises:
        InputError: a sampler that takes fewer steps, or a matrix that is not called once in each.
    """
    layers = matrices(model, modules)
    squares = {name: [torch.zeros(m.in_features, device=m.weight.device)] * steps for name, m in layers.items()}
    rows = {name: [0] * steps for name in layers}
    for number, prompt in enumerate(prompts):
        calls = dict.fromkeys(layers, 0)

        def see(name: str, seen: Tensor, calls: dict[str, int] = calls) -> None:
            step = calls[name]
            if step == steps:
                raise _Enough
            calls[name] += 1
            flat = seen.flatten(0, -2)
            rows[name][step] += len(flat)
            squares[name][step] = squares[name][step] + unit_row_norms(flat).square()

        with suppress(_Enough), on_inputs(layers, see):
            sample(prompt, number)
        odd = next((name for name, count in calls.items() if count != steps), None)
        if odd is not None:
            raise InputError(
                f"{odd} was called {calls[odd]} times by the sampler, {steps} steps are looked at",
                "give a sampler that calls the model once a step and takes that many, or ask for fewer steps",
            )
    return Norms({name: torch.stack(found).sqrt() for name, found in squares.items()}, rows)


def step_masks(
    model: nn.Module,
    target: Norms,
    reference: Norms,
    sparsity: float = SPARSITY,
    modules: str = FF_OUT,
) -> dict[str, Bool[Tensor, "steps out units"]]:
    """The mask of every matrix at every step, from the norms of target and reference prompts.

    Raises:
        InputError: norms of unlike numbers of rows (those of more are larger); a share of no weight or of all.
    """
    layers = matrices(model, modules)
    check_sparsity(layers, sparsity)
    if target.rows != reference.rows:
        raise InputError(
            "target and reference prompts gave unlike numbers of rows", "run as many of both, at one image size"
        )
    found = {}
    for name, layer in layers.items():
        scores = [[importance(layer.weight.detach(), norms) for norms in of.values[name]] for of in (target, reference)]
        found[name] = torch.stack([step_mask(t, r, sparsity) for t, r in zip(*scores, strict=True)])
    return found


def find_mask(
    model: nn.Module,
    sample: Sample,
    target_prompts: Sequence[Any],
    reference_prompts: Sequence[Any] | None = None,
    *,
    modules: str = FF_OUT,
    steps: int = STEPS,
    sparsity: float = SPARSITY,
    ratio: float = RATIO,
) -> Masks:
    """The weights that matter more to the target prompts than to the reference prompts.

    Args:
        sample: `sample(prompt, seed)` runs the whole sampler with the noise of that seed.
        target_prompts: memorised ones; ten are enough in the paper.
        reference_prompts: as many; None takes the empty prompt that often.

    Raises:
        InputError: see `record_norms` and `step_masks`.
    """
    if not target_prompts:
        raise InputError("no target prompts", "give prompts whose training images come back")
    check_sparsity(matrices(model, modules), sparsity)
    reference_prompts = [""] * len(target_prompts) if reference_prompts is None else reference_prompts
    target, reference = (
        record_norms(model, sample, prompts, modules, steps) for prompts in (target_prompts, reference_prompts)
    )
    return {
        name: union(masks, ratio) for name, masks in step_masks(model, target, reference, sparsity, modules).items()
    }


@dataclass(frozen=True)
class Removed:
    """Pruned weights: the masks and the values that they had."""

    masks: Mapping[str, Tensor]
    values: Mapping[str, Tensor]


@torch.no_grad()
def prune(model: nn.Module, masks: Mapping[str, Tensor]) -> Removed:
    """W ← W · (1 − M), in place; returns the removed weights.

    Raises:
        InputError: the model has no such matrix, or one of another shape; nothing has changed.
    """
    found = dict(model.named_modules())
    for name, mask in masks.items():
        shape = tuple(getattr(getattr(found.get(name), "weight", None), "shape", ()))
        if shape != tuple(mask.shape):
            raise InputError(f"the mask of {name} is {tuple(mask.shape)}, the model has {shape or 'no such matrix'}")
    values = {}
    for name, mask in masks.items():
        weight = found[name].get_parameter("weight")
        values[name] = weight[mask].clone()
        weight[mask] = 0
    return Removed(dict(masks), values)


@torch.no_grad()
def restore(model: nn.Module, removed: Removed) -> None:
    """Restore the weights that `prune` removed, to the last bit."""
    found = dict(model.named_modules())
    for name, mask in removed.masks.items():
        weight = found[name].get_parameter("weight")
        weight[mask.to(weight.device)] = removed.values[name].to(weight.device)


def prune_memorized(
    model: nn.Module,
    sample: Sample,
    memorized_prompts: Sequence[Any],
    reference_prompts: Sequence[Any] | None = None,
    **options: Any,
) -> Removed:
    """Find the memorised prompts' weights and prune them, in place; `options` are those of `find_mask`."""
    return prune(model, find_mask(model, sample, memorized_prompts, reference_prompts, **options))


def retrigger(
    loss: Callable[[Tensor], Tensor],
    embedding: Float[Tensor, " ..."],
    *,
    radius: float = 0.5,
    steps: int = 50,
    rate: float = 0.1,
) -> Float[Tensor, " ..."]:
    """Look for a nearby embedding that brings an image back: projected descent of `loss` around `embedding`.

    Args:
        loss: of an embedding, for one memorised image: the model's denoising error on it.
        radius: of the ball that is searched, as a share of the embedding's own norm.
        rate: length of a step, as a share of the radius.

    Returns:
        The embedding of the smallest loss that was met; the given one if none was better.
    """
    limit = radius * float(embedding.norm())
    moved = torch.zeros_like(embedding, requires_grad=True)
    best, least = embedding.detach().clone(), float("inf")
    for _ in range(steps):
        value = loss(embedding.detach() + moved)
        if float(value.detach()) < least:
            best, least = (embedding + moved).detach().clone(), float(value.detach())
        (gradient,) = torch.autograd.grad(value, moved)
        with torch.no_grad():
            moved -= rate * limit * gradient / gradient.norm().clamp(min=1e-12)
            moved *= min(1.0, limit / max(float(moved.norm()), 1e-12))
    return best
