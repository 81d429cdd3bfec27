"""Gated-SwinRMT's masks and passes against slow loops over cells, its gates, and RMT as a case of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from letheon.attend.gated_swinrmt import SIZES, Axis, GatedRetention, GatedSwinRMT, Settings, gate_maps, log_decay
from letheon.attend.gated_swinrmt.retention import (
    balanced_alibi,
    decomposed_retention,
    full_retention,
    manhattan_decay,
    retention_axis,
    swat_axis,
)
from letheon.attend.gated_swinrmt.windows import Full, geometry_of, partition, reverse, same_region
from letheon.core.errors import InputError

oracle = pytest.mark.oracle("gated-swinrmt")

SMALL = Settings(
    dims=(8, 16),
    depths=(2, 2),
    heads=(2, 4),
    mlp_ratios=(2.0, 2.0),
    window=4,
    full=(False, False),
    decay=((2.0, 4.0), (2.0, 4.0)),
    layer_scale=(None, None),
    drop_path=0.0,
)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# Masks


@oracle
def test_decay_over_both_axes_is_gamma_to_the_manhattan_distance() -> None:
    rates = log_decay(4, 2.0, 4.0)
    gammas = [1 - 2 ** -(2 + n) for n in range(4)]
    assert rates.exp().tolist() == pytest.approx(gammas)
    assert gammas[0] == 0.75
    both = (manhattan_decay(rates, 3)[:, :, None, :, None] + manhattan_decay(rates, 5)[:, None, :, None, :]).exp()
    for n, y, x, i, j in [(0, 0, 0, 2, 4), (1, 2, 3, 0, 1), (3, 1, 1, 1, 1)]:
        assert float(both[n, y, x, i, j]) == pytest.approx(gammas[n] ** (abs(y - i) + abs(x - j)))


@oracle
def test_slopes_are_balanced_and_by_hand() -> None:
    found = balanced_alibi(4, 3, torch.zeros(1, dtype=torch.float64))
    offsets = torch.tensor([[0, -1, -2], [1, 0, -1], [2, 1, 0]], dtype=torch.float64)
    for slope, head in zip((2**-4, 2**-8, -(2**-4), -(2**-8)), found, strict=True):
        assert torch.equal(head, slope * offsets)
    assert torch.equal(found.sum(0), torch.zeros(3, 3, dtype=torch.float64))


@oracle
def test_only_neighbours_before_the_roll_are_of_one_region() -> None:
    cpu = torch.device("cpu")
    assert bool(same_region(8, 4, 0, cpu).all())
    rolled = same_region(8, 4, 2, cpu)  # cells 2 3 4 5 | 6 7 0 1
    assert bool(rolled[0].all())
    assert rolled[1].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    padded = same_region(6, 4, 2, cpu)  # cells 2 3 4 5 | - - 0 1
    assert bool(padded[0].all())
    assert padded[1].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_windows_are_cut_and_put_back() -> None:
    x = normal(2, 7, 9, 2, 3)
    for size, shift in [((4, 4), (0, 0)), ((4, 4), (2, 2)), ((7, 4), (0, 2)), ((7, 9), (0, 0))]:
        assert torch.equal(reverse(partition(x, size, shift), 7, 9, shift), x)
    assert partition(x, (4, 3), (0, 0)).shape == (2, 2, 3, 4, 2, 3, 3)


# Both passes, by a loop over cells


def slow_pass(q: Tensor, k: Tensor, v: Tensor, group: list[int], weigh: Any) -> Tensor:
    """Along one axis: q, k, v are [length, d]; cells of one group see each other."""
    rows = []
    for a in range(len(q)):
        cells = [c for c in range(len(q)) if group[c] == group[a]]
        weights = weigh(torch.stack([q[a] @ k[c] for c in cells]), torch.tensor([float(a - c) for c in cells]))
        rows.append(sum(w * v[c] for w, c in zip(weights, cells, strict=True)))
    return torch.stack(rows)  # type: ignore[arg-type]


def slow_retention(q: Tensor, k: Tensor, v: Tensor, window: int, shifted: bool, weighs: list[Any]) -> Tensor:
    """[rows, columns, heads, d]: along rows, then down columns. Shifted windows are those whose borders lie half a
    window further on, cut off where the map ends."""
    rows, columns, heads, _ = q.shape

    def groups(length: int) -> list[int]:
        size = min(window, length)
        shift = size // 2 if shifted and size < length else 0
        return [(cell - shift) // size for cell in range(length)]

    first, second = torch.zeros_like(v), torch.zeros_like(v)
    for n in range(heads):
        for y in range(rows):
            first[y, :, n] = slow_pass(q[y, :, n], k[y, :, n], v[y, :, n], groups(columns), weighs[n])
        for x in range(columns):
            second[:, x, n] = slow_pass(q[:, x, n], k[:, x, n], first[:, x, n], groups(rows), weighs[n])
    return second


def weighings(settings: Settings) -> list[Any]:
    """For each head, weights of scores and offsets, as the paper's formulas say them."""
    gammas, slopes = [0.75, 1 - 2**-4], [2**-8, -(2**-8)]

    def retention(gamma: float) -> Any:
        return lambda s, o: torch.softmax(s + o.abs() * math.log(gamma), 0)

    def swat(gamma: float, slope: float) -> Any:
        return lambda s, o: torch.sigmoid(s + slope * o) * gamma ** o.abs()

    if settings.variant == "retention":
        return [retention(gamma) for gamma in gammas]
    return [swat(gamma, slope) for gamma, slope in zip(gammas, slopes, strict=True)]


@oracle
@pytest.mark.parametrize("variant", ["retention", "swat"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (6, 9), (3, 10)])
def test_windows_equal_a_loop_over_cells(size: tuple[int, int], shifted: bool, variant: Any) -> None:
    settings = replace(SMALL, variant=variant, rotary=False)
    q, k, v = normal(3, *size, 2, 4)
    windows = geometry_of(*size, q, settings, 0)[shifted]
    cut = [partition(x[None], windows.size, windows.shift) for x in (q, k, v)]  # type: ignore[union-attr]
    out = decomposed_retention(*cut, windows.width, windows.height)  # type: ignore[union-attr]
    found = reverse(out, *size, windows.shift)[0]  # type: ignore[union-attr]
    assert torch.allclose(found, slow_retention(q, k, v, 4, shifted, weighings(settings)), atol=1e-12)


@oracle
def test_without_decay_and_gate_it_is_decomposed_softmax_attention() -> None:
    q, k, v = normal(3, 4, 2, 5, 8)  # one window: [rows, heads, columns, d]
    plain = retention_axis(torch.zeros(2, 5, 5).double(), torch.ones(5, 5).bool())
    tall = retention_axis(torch.zeros(2, 4, 4).double(), torch.ones(4, 4).bool())
    attend = torch.nn.functional.scaled_dot_product_attention
    first = attend(q, k, v, scale=1.0)
    second = attend(*(x.transpose(0, 2) for x in (q, k, first)), scale=1.0).transpose(0, 2)
    assert torch.allclose(decomposed_retention(q, k, v, plain, tall), second)


@oracle
def test_all_cells_at_once_is_softmax_with_manhattan_distance() -> None:
    q, k, v = normal(3, 1, 3, 4, 2, 6)
    settings = replace(SMALL, window=None, gated=False, full=(True, True))
    geometry = geometry_of(3, 4, q, settings, 0)
    assert isinstance(geometry, Full)
    found = full_retention(q, k, v, geometry.bias)
    cells = [(y, x) for y in range(3) for x in range(4)]
    for n, gamma in enumerate((0.75, 1 - 2**-4)):
        for y, x in cells:
            scores = [q[0, y, x, n] @ k[0, i, j, n] + (abs(y - i) + abs(x - j)) * math.log(gamma) for i, j in cells]
            weights = torch.stack(scores).softmax(0)
            wanted = sum(w * v[0, i, j, n] for w, (i, j) in zip(weights, cells, strict=True))
            assert torch.allclose(found[0, y, x, n], wanted)  # type: ignore[arg-type]


@oracle
def test_the_decay_is_added_before_the_softmax_and_multiplied_after_the_sigmoid() -> None:
    scores, decay = normal(1, 3, 3), manhattan_decay(log_decay(1), 3)
    allowed = torch.ones(3, 3).bool().tril()
    soft = retention_axis(decay, allowed).weights(scores)
    assert torch.allclose(soft.sum(-1), torch.ones(1, 3).double())
    assert float(soft[0, 0, 1]) == 0
    slopes = balanced_alibi(1, 3, scores)
    sigmoid = swat_axis(decay, slopes, allowed).weights(scores)
    assert torch.allclose(
        sigmoid, torch.sigmoid(scores + slopes) * 0.75 ** torch.arange(3).sub(torch.arange(3)[:, None]).abs() * allowed
    )
    rows = swat_axis(decay, slopes, allowed, rowsum=True).weights(scores)
    assert torch.allclose(rows, sigmoid / sigmoid.sum(-1, keepdim=True), atol=1e-5)


# The block


def attention(settings: Settings, shifted: bool = False) -> GatedRetention:
    torch.manual_seed(0)
    return GatedRetention(8, 2, settings, shifted).double()


@oracle
@pytest.mark.parametrize("variant", ["retention", "swat"])
def test_a_window_as_large_as_the_map_is_no_window(variant: Any) -> None:
    x = normal(1, 4, 4, 8)
    windowed, free = (replace(SMALL, variant=variant, window=window) for window in (4, None))
    block = attention(windowed, shifted=True)
    assert torch.equal(block(x, geometry_of(4, 4, x, windowed, 0)), block(x, geometry_of(4, 4, x, free, 0)))


@oracle
def test_mixing_commutes_with_a_roll_by_whole_windows_unless_they_are_shifted() -> None:
    q, k, v = normal(3, 1, 8, 8, 8)
    geometry = geometry_of(8, 8, q, SMALL, 0)
    for shifted in (False, True):
        block = attention(SMALL, shifted)
        rolled = block.mix(*(x.roll((4, 4), (1, 2)) for x in (q, k, v)), geometry)
        assert torch.allclose(rolled, block.mix(q, k, v, geometry).roll((4, 4), (1, 2))) is not shifted


@oracle
def test_a_shut_gate_lets_nothing_through_and_an_open_one_all() -> None:
    x = normal(1, 4, 4, 8)
    geometry = geometry_of(4, 4, x, SMALL, 0)
    block, ungated = attention(SMALL), attention(replace(SMALL, gated=False))
    with torch.no_grad():
        block.project.weight[24:] = 0
        block.project.bias[24:] = -1e4
    assert torch.allclose(block(x, geometry), block.out.bias.expand(1, 4, 4, 8))
    assert float(block.gate(x).detach().max()) == 0
    with torch.no_grad():
        block.project.bias[24:] = 1e4
        ungated.project.weight.copy_(block.project.weight[:24])
        ungated.project.bias.copy_(block.project.bias[:24])
    ungated.local, ungated.out = block.local, block.out
    assert torch.allclose(block(x, geometry), ungated(x, geometry))


@oracle
def test_swat_gates_its_values_and_its_output_is_of_unit_size_by_head() -> None:
    settings = replace(SMALL, variant="swat")
    x, block = normal(2, 4, 4, 8), attention(settings)
    geometry = geometry_of(4, 4, x, settings, 0)
    q, k, v, u = block.project(x).chunk(4, -1)
    v = v * torch.nn.functional.silu(u)
    mixed = block.mix(q, k / 2, v, geometry)
    assert torch.allclose(block(x, geometry), block.out(mixed + block.local(v)))
    assert mixed.detach().unflatten(-1, (2, 4)).square().mean(-1).sqrt().max() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("variant", ["retention", "swat"])
def test_gradients(variant: Any) -> None:
    settings = replace(SMALL, variant=variant)
    block = attention(settings, shifted=True)
    x = normal(1, 5, 6, 8).requires_grad_()
    geometry = geometry_of(5, 6, x.detach(), settings, 0)
    assert torch.autograd.gradcheck(lambda x: block(x, geometry), x, fast_mode=True)


# The models


def test_the_published_size_is_met_by_all_three() -> None:
    for name in SIZES:
        with torch.device("meta"):
            model = GatedSwinRMT(name, num_classes=100)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        assert millions == pytest.approx(78, rel=0.02), name


def test_operations_grow_with_the_area_of_the_image_unless_there_are_no_windows() -> None:
    for window, factor in ((4, 4.0), (None, 4.3)):
        model = GatedSwinRMT(replace(SMALL, window=window), num_classes=0, stem_stride=1).eval()
        counts = []
        for side in (16, 32):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model(torch.zeros(1, 3, side, side))
            counts.append(counter.get_total_flops())
        ratio = counts[1] / counts[0]
        assert ratio == pytest.approx(factor, abs=0.01) if window else ratio > 4.2


@pytest.mark.parametrize("variant", ["retention", "swat"])
def test_a_large_image_needs_no_square_of_memory(
    variant: Any, largest_tensor: Callable[[Callable[[], object]], int]
) -> None:
    model = GatedSwinRMT(replace(SMALL, variant=variant), num_classes=0, stem_stride=1).eval()
    with torch.inference_mode():
        # 4096 cells: all pairs of them would be 64 MB a head
        assert largest_tensor(lambda: model(torch.zeros(1, 3, 64, 64))) < 2**23


def test_gates_are_shown_over_the_image() -> None:
    torch.manual_seed(0)
    model = GatedSwinRMT(SMALL, num_classes=3, stem_stride=1).eval()
    maps = gate_maps(model, torch.rand(2, 3, 9, 8))
    assert [tuple(one.shape) for one in maps] == [(2, 9, 8, 8), (2, 9, 8, 8), (2, 5, 4, 16), (2, 5, 4, 16)]
    assert all(0 < float(one.min()) <= float(one.max()) < 1 for one in maps)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="there is no model 'swatt'"):
        GatedSwinRMT("swatt")
    with pytest.raises(InputError, match="variant is 'linear'"):
        replace(SMALL, variant="linear")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="window is 0"):
        replace(SMALL, window=0)
    with pytest.raises(InputError, match="one matrix over all cells"):
        replace(SMALL, full=(True, True))
    with pytest.raises(InputError, match="must be a whole, even number"):
        replace(SMALL, heads=(8, 8))


def test_an_axis_without_a_factor_is_a_softmax() -> None:
    scores = normal(2, 3, 3)
    assert torch.equal(Axis(torch.zeros(1)).weights(scores), scores.softmax(-1))
