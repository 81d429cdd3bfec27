"""Memorised images: scores and masks by hand, bookkeeping of sampler steps, pruning that can be undone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.forget.edits.memorized_images import (
    density,
    find_mask,
    importance,
    iou,
    matrices,
    prune,
    prune_memorized,
    random_mask,
    record_norms,
    restore,
    retrigger,
    step_mask,
    step_masks,
    union,
    unit_row_norms,
)
from letheon.papers.common.digits_ddpm import FeedForward
from tests.diffusion import tiny_unet

PAPER = pytest.mark.oracle("memorized-images")
STEPS = 4


class Toy(nn.Module):
    """Two feed-forwards in a row, called once a sampler step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = (nn.ModuleDict({"ff": FeedForward(6, 20)}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.down["ff"](self.up["ff"](x))


@pytest.fixture
def toy() -> Toy:
    return Toy().eval()


def sampler(toy: Toy, steps: int = STEPS, rows: int = 3) -> object:
    """Starts from the seed's noise plus the prompt; calls the model once a step."""

    def sample(prompt: float, seed: int) -> Tensor:
        x = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)) + (prompt or 0.0)
        for _ in range(steps):
            x = x + 0.1 * toy(x)
        return x

    return sample


# The formulas


@PAPER
def test_rows_are_scaled_to_length_one_before_columns_are_measured() -> None:
    activations = torch.tensor([[3.0, 4.0], [30.0, 40.0], [1.0, 0.0]])
    # columns of rows (0.6, 0.8) twice and (1, 0): √(0.36 + 0.36 + 1) and √(0.64 + 0.64)
    assert unit_row_norms(activations) == pytest.approx([1.72**0.5, 1.28**0.5])


@PAPER
def test_the_mask_takes_the_top_of_each_row_where_the_target_s_score_is_larger() -> None:
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.1], [0.1, 0.2, -3.0, 1.0]])
    target, reference = torch.tensor([1.0, 1.0, 2.0, 1.0]), torch.tensor([2.0, 0.5, 1.0, 3.0])
    assert torch.allclose(importance(weight, target), torch.tensor([[1.0, 2.0, 1.0, 0.1], [0.1, 0.2, 6.0, 1.0]]))
    mask = step_mask(importance(weight, target), importance(weight, reference), sparsity=0.5)
    # top two: columns 1 and 0 or 2 (a tie) in the first row, 2 and 3 in the second, where 3 is the reference's
    assert bool(mask[0, 1])
    assert not bool(mask[0, 3])
    assert not bool(mask[0, 0])  # 1 is less than the reference's 2
    assert mask[1].tolist() == [False, False, True, False]


@PAPER
def test_the_union_counts_steps() -> None:
    steps = torch.tensor([[[1, 0, 1]], [[1, 0, 0]], [[1, 0, 0]], [[1, 0, 1]]], dtype=torch.bool)
    assert union(steps).tolist() == [[True, False, True]]
    assert union(steps, ratio=0.5).tolist() == [[True, False, False]]  # two of four are not more than half


@PAPER
def test_overlap_and_density_are_over_all_matrices() -> None:
    first = {"a": torch.tensor([[True, True, False]]), "b": torch.tensor([[True]])}
    second = {"a": torch.tensor([[False, True, True]]), "b": torch.tensor([[True]])}
    assert iou(first, second) == 2 / 4
    assert iou(first, first) == 1
    assert density(first) == 3 / 4


@PAPER
def test_norms_equal_those_of_activations_collected_by_hand(toy: Toy) -> None:
    """A second formulation: all activations are kept, put into one matrix a step, and measured at the end."""
    found = record_norms(toy, sampler(toy), [0.0, 1.0], steps=2)
    kept: list[list[Tensor]] = [[] for _ in range(STEPS)]
    for seed, prompt in enumerate([0.0, 1.0]):
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)) + prompt
        for step in range(STEPS):
            with torch.no_grad():
                middle = toy.up["ff"](x)
                kept[step].append(toy.down["ff"].net[0](middle))
                x = x + 0.1 * toy(x)
    for step in range(2):
        rows = torch.cat(kept[step])
        expected = (rows / rows.norm(dim=1, keepdim=True)).norm(dim=0)
        assert torch.allclose(found.values["down.ff.net.2"][step], expected, atol=1e-5)  # float32
    assert found.rows["down.ff.net.2"] == [6, 6]


@PAPER
def test_swapping_target_and_reference_gives_disjoint_masks(toy: Toy) -> None:
    target, reference = (record_norms(toy, sampler(toy), prompts, steps=STEPS) for prompts in ([1.0, 2.0], [0.0, 0.0]))
    there, back = step_masks(toy, target, reference, 0.3), step_masks(toy, reference, target, 0.3)
    assert all(bool(mask.any()) for mask in there.values())
    for name in there:
        assert not bool((there[name] & back[name]).any())


@PAPER
def test_the_mask_found_is_that_of_target_prompts_against_reference_prompts(toy: Toy) -> None:
    """Exchanged, the two give a mask that has no weight in common with this one."""
    targets, references, sample = [1.0, 2.0], [0.0, 0.0], sampler(toy)
    norms = (record_norms(toy, sample, prompts, steps=STEPS) for prompts in (targets, references))
    expected = {name: masks.any(0) for name, masks in step_masks(toy, *norms, 0.3).items()}
    found = find_mask(toy, sample, targets, references, steps=STEPS, sparsity=0.3)
    assert all(bool(mask.any()) for mask in expected.values())
    assert all(torch.equal(found[name], mask) for name, mask in expected.items())


@PAPER
def test_densities_stay_within_their_bounds(toy: Toy) -> None:
    target, reference = (record_norms(toy, sampler(toy), prompts, steps=STEPS) for prompts in ([1.0, 2.0], [0.0, 0.0]))
    for masks in step_masks(toy, target, reference, 0.15).values():
        assert masks.sum(-1).max() <= int(0.15 * 20)
        assert union(masks).sum(-1).max() <= STEPS * int(0.15 * 20)


# On a model


def test_a_mask_is_found_again_under_the_same_seeds(toy: Toy) -> None:
    options = {"reference_prompts": [0.0, 0.0], "steps": STEPS, "sparsity": 0.2}
    first, second = (find_mask(toy, sampler(toy), [1.0, 2.0], **options) for _ in range(2))
    assert set(first) == {"up.ff.net.2", "down.ff.net.2"}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pruning_zeroes_the_masked_weights_alone_and_is_undone_to_the_last_bit(toy: Toy) -> None:
    before = {name: tensor.clone() for name, tensor in toy.state_dict().items()}
    removed = prune_memorized(toy, sampler(toy), [1.0, 2.0], [0.0, 0.0], steps=STEPS, sparsity=0.2)
    for name, tensor in toy.state_dict().items():
        mask = removed.masks.get(name.removesuffix(".weight"))
        expected = before[name] if mask is None else before[name] * ~mask
        assert torch.equal(tensor, expected), name
    restore(toy, removed)
    assert all(torch.equal(tensor, before[name]) for name, tensor in toy.state_dict().items())


def test_an_empty_mask_changes_nothing(toy: Toy) -> None:
    before = {name: tensor.clone() for name, tensor in toy.state_dict().items()}
    prune(toy, {name: torch.zeros_like(m.weight, dtype=torch.bool) for name, m in matrices(toy).items()})
    assert all(torch.equal(tensor, before[name]) for name, tensor in toy.state_dict().items())


def test_a_random_mask_has_the_density_of_every_row(toy: Toy) -> None:
    masks = find_mask(toy, sampler(toy), [1.0], [0.0], steps=STEPS, sparsity=0.2)
    drawn = random_mask(masks, seed=0)
    for name, mask in masks.items():
        assert torch.equal(mask.sum(1), drawn[name].sum(1))
    assert iou(masks, drawn) < 0.9
    assert not all(torch.equal(drawn[name], random_mask(masks, seed=1)[name]) for name in masks)


def test_the_sampler_is_left_after_the_last_step_that_is_looked_at(toy: Toy) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    toy.register_forward_hook(count)
    record_norms(toy, sampler(toy, steps=50), [0.0], steps=3)
    assert calls == 3
    assert not any(m._forward_pre_hooks for m in toy.modules())


def test_the_down_projections_of_a_language_model_are_found_as_well(tiny: LanguageModel) -> None:
    def sample(prompt: str, seed: int) -> None:
        tiny.model(torch.tensor([tiny.encoder().prompt(prompt)]), use_cache=False)

    masks = find_mask(tiny.model, sample, ["Ann?"], ["Who?"], modules="mlp.down_proj", steps=1, sparsity=0.05)
    assert len(masks) == 4
    assert 0 < density(masks) <= 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": STEPS + 1}, "called 4 times by the sampler, 5 steps"),
        ({"sparsity": 0.01}, "sparsity 0.01 of 20 inputs"),
        ({"modules": "ff.net.9"}, r"no linear module of Toy is called \*.ff.net.9"),
        ({"reference_prompts": [0.0]}, "unlike numbers of rows"),
        ({"target_prompts": []}, "no target prompts"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], message: str, toy: Toy) -> None:
    options: dict[str, object] = {"target_prompts": [1.0, 2.0], "reference_prompts": [0.0, 0.0], "steps": STEPS}
    with pytest.raises(InputError, match=message):
        find_mask(toy, sampler(toy), **{"sparsity": 0.2, **options, **change})


def test_a_mask_of_another_model_is_refused(toy: Toy) -> None:
    with pytest.raises(InputError, match="no such matrix"):
        prune(toy, {"mid.ff.net.2": torch.zeros(6, 20, dtype=torch.bool)})


# The search around an embedding


@PAPER
def test_the_search_ends_at_the_nearest_point_of_its_ball() -> None:
    """The squared distance to a point outside the ball is smallest where the ball faces it."""
    embedding, wanted = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 14.0])
    found = retrigger(lambda e: (e - wanted).square().sum(), embedding, radius=0.5, steps=100)
    assert found == pytest.approx([3.0, 6.5], abs=0.01)  # radius 2.5
    inside = retrigger(lambda e: (e - embedding - 1).square().sum(), embedding, radius=0.5, steps=100, rate=0.02)
    assert inside == pytest.approx([4.0, 5.0], abs=0.05)  # steps have a fixed length, 0.05


def test_the_search_never_returns_what_is_worse() -> None:
    embedding = torch.tensor([1.0, 2.0])
    assert torch.equal(retrigger(lambda e: (e - embedding).square().sum(), embedding), embedding)


# diffusers


def test_a_unet_of_diffusers_is_pruned_and_restored() -> None:
    diffusers = pytest.importorskip("diffusers", reason="the extra `diffusers` is not installed")
    torch.manual_seed(0)
    unet = tiny_unet(in_channels=4, out_channels=4).eval()
    scheduler = diffusers.DDIMScheduler()

    @torch.no_grad()
    def sample(prompt: float, seed: int) -> Tensor:
        scheduler.set_timesteps(6)
        generator = torch.Generator().manual_seed(seed)
        latents, text = torch.randn(2, 4, 8, 8, generator=generator), torch.full((2, 3, 16), prompt)
        for t in scheduler.timesteps:
            latents = scheduler.step(unet(latents, t, text).sample, t, latents).prev_sample
        return latents

    plain = sample(1.0, 0)
    removed = prune_memorized(unet, sample, [1.0, 2.0], [0.0, 0.0], steps=3, sparsity=0.05)
    assert len(removed.masks) == 4  # a block down, the middle, two up
    assert 0 < density(removed.masks) <= 3 * 0.05
    assert not torch.equal(sample(1.0, 0), plain)
    restore(unet, removed)
    assert torch.equal(sample(1.0, 0), plain)
