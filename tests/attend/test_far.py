"""Far attention on tensors: exact over the keys that it chooses, and the choice is that of the plain definition."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from letheon.attend.far import Settings, far_attention, far_pairs
from letheon.attend.far.choosing import chosen_chunks
from letheon.attend.hyper import hyper_attention, kernels
from letheon.core.errors import InputError

SMALL = Settings(window=16, block=8, chunk=4, chosen=3, pin_first=4)
CHOICES = ("mean", "spread", "bound")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensors(n: int, rows: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v with two heads per key head, and with gradients."""
    generator = seeded(1)
    return [
        (2 * torch.randn(rows, h, n, 8, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
        for h in (2 * rows, rows, rows)
    ]


def far(qkv: list[Tensor], settings: Settings, **options: Any) -> tuple[Tensor, Tensor]:
    return far_attention(*qkv, return_lse=True, **vars(settings), **options)


def exact(qkv: list[Tensor]) -> Tensor:
    return scaled_dot_product_attention(*qkv, is_causal=True, enable_gqa=True)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).detach().norm() / b.double().detach().norm())


# The definition, pair by pair


def seen_pairs(q: Tensor, k: Tensor, settings: Settings, lowest: bool = False) -> Tensor:
    """[n, n]: whether query i of one head attends to key j."""
    n = len(q)
    seen = torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        near = i // settings.window * settings.window - settings.window
        seen[i, : i + 1] = i < settings.exact_up_to
        seen[i, : min(settings.pin_first, i + 1)] = seen[i, max(near, 0) : i + 1] = True
    for start in range(settings.exact_up_to, n, settings.block):
        rows = range(start, min(start + settings.block, n))
        before = start // settings.window * settings.window - settings.window
        starts = range(settings.pin_first, before - settings.chunk + 1, settings.chunk)
        largest = [0.0] * len(starts)
        for i in rows:
            scaled = q[i] / q.shape[1] ** 0.5
            masses = [math.exp(estimate(scaled, k[at : at + settings.chunk], settings.choose)) for at in starts]
            largest = [max(old, mass / sum(masses)) for old, mass in zip(largest, masses, strict=True)]
        best = sorted(range(len(starts)), key=largest.__getitem__, reverse=not lowest)[: settings.chosen]
        for i in rows:
            for one in best:
                seen[i, starts[one] : starts[one] + settings.chunk] = True
    return seen


def estimate(q: Tensor, keys: Tensor, choose: str) -> float:
    """log of the mean of exp(s) over a chunk's keys, as each choice estimates it; q is scaled."""
    products = q * keys  # [chunk, d]
    if choose == "bound":
        return float(products.max(0).values.sum())
    spread = products.var(0, correction=0).sum() / 2 if choose == "spread" else 0.0
    return float(products.sum(1).mean() + spread)


def naive(qkv: list[Tensor], settings: Settings, lowest: bool = False) -> tuple[Tensor, Tensor]:
    q, k, v = qkv
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    with torch.no_grad():
        seen = torch.stack(
            [seen_pairs(*pair, settings, lowest) for pair in zip(q.flatten(0, 1), k.flatten(0, 1), strict=True)]
        )
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen.view(*q.shape[:2], *seen.shape[1:]), -torch.inf)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


@pytest.mark.parametrize("choose", CHOICES)
@pytest.mark.parametrize("n", [61, 80])
def test_it_is_the_definition_in_output_and_every_gradient(n: int, choose: Any) -> None:
    qkv, settings = tensors(n, rows=1), replace(SMALL, choose=choose)
    ours, theirs = far(qkv, settings), naive(qkv, settings)
    shares = [torch.randn(x.shape, generator=seeded(2), dtype=x.dtype) for x in theirs]
    gradients = [
        torch.autograd.grad((out * shares[0]).sum() + (lse * shares[1]).sum(), qkv) for out, lse in (ours, theirs)
    ]
    assert relative(ours[0], exact(qkv)) > 1e-2, "something is left out, or this says nothing"
    for mine, other in zip([*ours, *gradients[0]], [*theirs, *gradients[1]], strict=True):
        assert relative(mine, other) < 1e-12
    assert relative(ours[0], naive(qkv, settings, lowest=True)[0]) > 1e-2, "the lowest chunks would do as well"


@pytest.mark.parametrize("choose", CHOICES)
def test_another_scale_is_that_of_the_choice_and_of_the_output(choose: Any) -> None:
    qkv, settings = tensors(80, rows=1), replace(SMALL, choose=choose)
    q, k, v = qkv
    ours, theirs = far(qkv, settings, scale=0.9), naive([0.9 * 8**0.5 * q, k, v], settings)
    wrong = [seen_pairs(q[0, 0], k[0, 0], settings), seen_pairs(0.9 * 8**0.5 * q[0, 0], k[0, 0], settings)]
    assert choose == "mean" or not torch.equal(*wrong), "the choice would be the same under the usual scale"
    gradients = [torch.autograd.grad(out.sin().sum() + lse.sum(), qkv) for out, lse in (ours, theirs)]
    for mine, other in zip([*ours, *gradients[0]], [*theirs, *gradients[1]], strict=True):
        assert relative(mine, other) < 1e-12


@pytest.mark.parametrize("choose", CHOICES)
def test_it_is_exact_where_all_chunks_are_chosen(choose: Any) -> None:
    # before the window of the stretch from 96 on lie 80 keys: 4 pinned ones and 19 chunks
    qkv, settings = tensors(110), replace(SMALL, choose=choose, chosen=19)
    assert settings.exact_up_to == 96
    out, lse = far(qkv, settings)
    assert relative(out, exact(qkv)) < 1e-12
    found, wanted = (torch.autograd.grad(x.square().sum(), qkv) for x in (out, exact(qkv)))
    for ours, theirs in zip(found, wanted, strict=True):
        assert relative(ours, theirs) < 1e-12
    assert lse.isfinite().all()


def test_one_query_of_a_block_gets_the_chunk_that_it_alone_needs() -> None:
    """The other queries of its block agree on other chunks, and in the mean over queries those would win."""
    n, settings = 256, replace(SMALL, block=16)
    k, v = torch.randn(2, 1, n, 8, generator=seeded(3), dtype=torch.float64)
    decoys, needle = (5, 9, 13, 17, 21), 30  # chunks
    for one in decoys:
        k[:, 4 + 4 * one : 8 + 4 * one, 0] = 6.0
    k[:, 4 + 4 * needle + 2, 1] = 60.0  # one key of its chunk
    for asking in (240, 247, 255):
        q = 0.1 * torch.randn(1, n, 8, generator=seeded(4), dtype=torch.float64)
        q[:, 240:, 0] = 3.0
        q[:, asking] = 0.0
        q[:, asking, 1] = 3.0
        for choose in CHOICES:
            chosen = chosen_chunks(q, k, replace(settings, choose=choose), 8**-0.5)
            assert needle in chosen[0, -1].tolist()
            assert set(chosen[0, -1].tolist()) < {needle, *decoys}
        mean = q[0, 240:].mean(0) @ k[0, 4:220].view(-1, 4, 8).mean(1).T
        assert needle not in mean.topk(settings.chosen).indices.tolist()
        out = far_attention(q[None], k[None], v[None], **vars(settings))
        assert torch.allclose(out[0, 0, asking], v[0, 4 + 4 * needle + 2], atol=1e-6)


def test_a_query_with_large_scores_everywhere_takes_no_place_from_another() -> None:
    """Scores are compared within a query: its share of a chunk counts, whatever the level of its scores."""
    n, settings = 256, replace(SMALL, block=16, chosen=1)
    q, k = torch.zeros(1, n, 8), torch.zeros(1, n, 8)
    k[..., 0] = 20.0  # every key
    k[:, 40:44, 0], k[:, 80:84, 1] = 21.0, 9.0
    q[:, 241, 0], q[:, 245, 1] = 1.0, 1.0
    assert chosen_chunks(q, k, settings, 1.0)[0, -1].item() == (80 - 4) // 4


# What an output depends on


@pytest.mark.parametrize("choose", CHOICES)
@pytest.mark.parametrize("start", [16, 32, 56, 72, 104, 120])
def test_nothing_after_its_block_reaches_a_query(start: int, choose: Any) -> None:
    settings = replace(SMALL, choose=choose)
    qkv = [x.detach() for x in tensors(131)]
    clean = far(qkv, settings)[0]
    prefix = far([x[:, :, :start] for x in qkv], settings)[0]
    for x in qkv:
        x[:, :, start:] = 7.0
    out = far(qkv, settings)[0]
    # the fused kernel rounds a triangle of another size differently
    assert torch.allclose(out[:, :, :start], clean[:, :, :start], atol=1e-12)
    assert torch.allclose(prefix, clean[:, :, :start], atol=1e-12)
    assert not torch.isclose(out[:, :, start:], clean[:, :, start:]).all(-1).any()


@pytest.mark.parametrize("start", [100, 109, 130])
def test_later_keys_and_values_reach_no_query(start: int) -> None:
    qkv = [x.detach() for x in tensors(131)]
    clean = far(qkv, SMALL)[0]
    for x in qkv[1:]:
        x[:, :, start:] = 1e6
    assert torch.equal(far(qkv, SMALL)[0][:, :, :start], clean[:, :, :start])


@pytest.mark.parametrize("choose", CHOICES)
def test_a_row_has_the_same_output_alone_and_in_a_batch(choose: Any) -> None:
    qkv, settings = [x.detach() for x in tensors(131)], replace(SMALL, choose=choose)
    whole = far(qkv, settings)[0]
    for row in range(2):
        assert relative(far([x[row : row + 1] for x in qkv], settings)[0], whole[row : row + 1]) < 1e-12


# Types, kernels, cost


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_smaller_types_agree_within_their_rounding(dtype: torch.dtype, tolerance: float) -> None:
    qkv = tensors(131, dtype=dtype)
    wide = [x.detach().double().requires_grad_() for x in qkv]  # the choice is made in float32 or wider
    (out, lse), (reference, _) = far(qkv, SMALL), far(wide, SMALL)
    assert out.dtype == dtype
    assert lse.dtype == torch.float32
    assert relative(out, reference) < tolerance
    found, wanted = (torch.autograd.grad(x.double().square().sum(), y) for x, y in ((out, qkv), (reference, wide)))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == dtype
        assert relative(ours, theirs) < 2 * tolerance


@pytest.mark.parametrize("attend", [far_attention, hyper_attention])
def test_under_autocast_inputs_take_its_type_and_nothing_within_is_cast(attend: Any) -> None:
    """A rotary embedding leaves queries and keys in float32 beside values in bfloat16."""
    options = vars(SMALL) if attend is far_attention else {"causal": True, "min_seq_len": 16, "generator": seeded()}
    q, k, v = qkv = tensors(131, dtype=torch.float32)
    narrow = [x.detach().bfloat16().requires_grad_() for x in qkv]
    wanted = attend(*narrow, **options)
    if attend is hyper_attention:
        options["generator"] = seeded()
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v.bfloat16(), **options)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)  # with products in bfloat16 far attention would choose other chunks
    sides = ((found, qkv), (wanted, narrow))
    gradients = [torch.autograd.grad(out.float().square().sum(), given) for out, given in sides]
    for x, y in zip(*gradients, strict=True):
        assert x.dtype == torch.float32
        assert torch.equal(x, y.float())


def test_the_fallback_without_a_fused_kernel_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = tensors(131)
    results = []
    for kernel in (kernels._kernel, lambda *_: ""):
        monkeypatch.setattr(kernels, "_kernel", kernel)
        out, lse = far(qkv, SMALL)
        results.append([out, lse, *torch.autograd.grad(out.sin().sum() + lse.sum(), qkv)])
    for fused, plain in zip(*results, strict=True):
        assert relative(fused, plain) < 1e-12


def test_without_chosen_chunks_it_is_a_window_with_pinned_keys() -> None:
    qkv, settings = tensors(61, rows=1), replace(SMALL, chosen=0)
    assert relative(far(qkv, settings)[0], naive(qkv, settings)[0]) < 1e-12


@pytest.mark.parametrize("n", [30, 61, 131])
def test_pairs_are_counted_as_they_are_computed(n: int) -> None:
    q, k, _ = (x.detach() for x in tensors(n))
    assert far_pairs(n, SMALL) == int(seen_pairs(q[0, 0], k[0, 0], SMALL).sum())


def test_scores_of_pairs_are_never_built(largest_tensor: Any) -> None:
    qkv = [x.detach() for x in tensors(2048, 1, dtype=torch.float32)]
    bytes_of_a_row = 4 * 2048
    assert largest_tensor(lambda: far(qkv, SMALL)) < 2048 * bytes_of_a_row / 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": 100}, "window is 100 and block is 128"),
        ({"chunk": 36}, "window is 384 and chunk is 36"),
        ({"pin_first": 3}, "pin_first is 3"),
        ({"chosen": -1}, "chosen is -1"),
        ({"chunk": 0}, "chunk is 0"),
        ({"choose": "best"}, "choose is 'best'"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        far_attention(*(torch.zeros(1, 1, 8, 4) for _ in range(3)), **options)


@pytest.mark.usefixtures("unchecked_shapes")
def test_shapes_that_do_not_fit_are_refused() -> None:
    q, k = torch.zeros(1, 1, 8, 4), torch.zeros(1, 1, 9, 4)
    with pytest.raises(InputError, match="causal with 8 queries and 9 keys"):
        far_attention(q, k, k)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("attend", [far_attention, hyper_attention])
def test_types_that_do_not_fit_are_refused(attend: Any) -> None:
    q = torch.zeros(1, 1, 8, 4)
    with pytest.raises(InputError, match=r"types do not fit: torch.float32, torch.float32, torch.bfloat16"):
        attend(q, q, q.bfloat16())
