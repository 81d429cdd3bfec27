"""HyperAttention on tensors: exact where it should be, elsewhere as the plain reference says, and nothing quadratic."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from letheon.attend.hyper import (
    MODEL,
    PAPER,
    Settings,
    computed_pairs,
    fast,
    hyper_attention,
    hyper_attention_naive,
    kernels,
)
from letheon.attend.hyper.hashing import angular_codes, gray_ranks, order_of
from letheon.attend.hyper.naive import Randomness, pair_weights
from letheon.attend.hyper.plan import pieces
from letheon.core.errors import InputError

oracle = pytest.mark.oracle("hyperattention")

SMALL = Settings(block_size=8, sample_size=8, min_seq_len=16)
KINDS = {
    "paper": SMALL,
    "row_norm": replace(SMALL, sampling="row_norm"),
    "ours": replace(SMALL, sampling="stratified", pin_first=3, pin_recent=5, centre=True),
    "no samples": replace(SMALL, sample_size=0),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensors(
    n: int, n_keys: int = 0, heads: int = 4, key_heads: int = 2, d: int = 8, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """q, k, v of two rows, with gradients."""
    shapes = [(2, heads, n, d), (2, key_heads, n_keys or n, d), (2, key_heads, n_keys or n, d)]
    generator = seeded(1)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def hyper(qkv: list[Tensor], settings: Settings, seed: int = 0, **options: Any) -> tuple[Tensor, Tensor]:
    return hyper_attention(*qkv, generator=seeded(seed), return_lse=True, **vars(settings), **options)


def randomness(qkv: list[Tensor], settings: Settings, causal: bool, seed: int = 0) -> Randomness:
    """The random numbers that the fast path draws, by the first query of each estimated rectangle."""
    q, k, _ = qkv
    plan = pieces(q.shape[2], k.shape[2], causal, settings)
    draws = fast.draw(plan, q.shape[1], q.shape[3], settings, q, seeded(seed))
    estimated = [piece for piece in plan if piece.kind == "estimated"]
    uniform = {
        piece.queries + node * piece.stride: drawn[:, node]
        for piece, drawn in zip(estimated, draws.uniform, strict=True)
        for node in range(piece.nodes)
    }
    return Randomness(draws.directions, uniform)


def naive(qkv: list[Tensor], settings: Settings, causal: bool) -> tuple[Tensor, Tensor]:
    return hyper_attention_naive(*qkv, randomness(qkv, settings, causal), causal=causal, settings=settings)


def exact(qkv: list[Tensor], causal: bool) -> Tensor:
    return scaled_dot_product_attention(*qkv, is_causal=causal, enable_gqa=True)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).detach().norm() / b.double().detach().norm())


# Against exact attention


@oracle
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        replace(SMALL, min_seq_len=70),
        replace(SMALL, block_size=70),
        replace(SMALL, sample_size=70),
        replace(SMALL, pin_first=70),
    ],
    ids=["short", "one block", "many samples", "all pinned"],
)
def test_it_is_exact_where_everything_is_covered(settings: Settings, causal: bool) -> None:
    n = 70
    qkv = tensors(n)
    out, lse = hyper(qkv, settings, causal=causal)
    assert relative(out, exact(qkv, causal)) < 1e-12
    scores = qkv[0] @ qkv[1].repeat_interleave(2, 1).mT / math.sqrt(8)
    if causal:
        scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
    assert torch.allclose(lse, scores.logsumexp(-1), atol=1e-12)


FOLDED = {  # causal, options: rectangles without a mask, in which heads that share keys are queries of one head
    "one rectangle": (False, replace(SMALL, min_seq_len=96)),
    "many rectangles": (True, replace(SMALL, pin_first=70)),
    "mask only": (True, replace(SMALL, min_seq_len=96)),
}


@oracle
@pytest.mark.parametrize(("heads", "key_heads"), [(9, 3), (4, 1), (3, 3)])
@pytest.mark.parametrize("kind", FOLDED)
def test_heads_that_share_keys_are_as_heads_with_copies_of_them(kind: str, heads: int, key_heads: int) -> None:
    causal, settings = FOLDED[kind]
    qkv = tensors(96, heads=heads, key_heads=key_heads, dtype=torch.float32)
    copies = [x.detach().repeat_interleave(heads // x.shape[1], 1).requires_grad_() for x in qkv]
    (out, lse), (plain, plain_lse) = (hyper(x, settings, causal=causal) for x in (qkv, copies))
    assert (pieces(96, 96, causal, settings)[-1].kind == "exact") == (kind != "mask only")
    assert relative(out, exact(copies, causal)) < 1e-6
    assert torch.allclose(out, plain, rtol=0, atol=1e-6)
    assert torch.allclose(lse, plain_lse, rtol=0, atol=1e-6)
    share = torch.randn(out.shape, generator=seeded(2))
    found, wanted = (
        torch.autograd.grad((o * share).sum() + n.sin().sum(), x)
        for o, n, x in ((out, lse, qkv), (plain, plain_lse, copies))
    )
    for mine, other in zip(found, wanted, strict=True):
        assert relative(mine, other.unflatten(1, (mine.shape[1], -1)).sum(2)) < 1e-6


@oracle
def test_a_weight_is_one_in_the_mean() -> None:
    qkv = [x.detach() for x in tensors(48, heads=1, key_heads=1)]
    for name in ("paper", "row_norm"):
        weights = [
            pair_weights(*qkv, randomness(qkv, KINDS[name], True, seed), True, KINDS[name]) for seed in range(400)
        ]
        mean = torch.stack(weights).mean(0)
        past = torch.ones(48, 48, dtype=torch.bool).tril()
        assert float(mean[..., ~past].abs().max()) == 0
        # the weights' spread is about 1 (more for rare rows), so 400 draws of two rows leave a tenth
        assert float((mean[..., past] - 1).square().mean().sqrt()) < 0.15
        assert float(mean[..., past].mean()) == pytest.approx(1, abs=0.01)


@oracle
def test_a_planted_heavy_key_is_found_by_sorting_and_not_by_sampling() -> None:
    generator = seeded()
    k = torch.nn.functional.normalize(torch.randn(1, 1, 1024, 32, generator=generator), dim=-1)
    q = 113 * k[:, :, torch.randperm(1024, generator=generator)]  # a score of 20: almost all weight is on the like key
    v = torch.randn(1, 1, 1024, 32, generator=generator)
    settings = Settings(block_size=128, sample_size=64, min_seq_len=1)
    truth = exact([q, k, v], False)
    found = relative(hyper([q, k, v], settings)[0], truth)
    unsorted = relative(hyper([q, k, v], replace(settings, block_size=1, sample_size=191))[0], truth)
    # two or three queries in a hundred have a code that falls on the border of two blocks, and may miss their key
    assert found < 0.25
    assert unsorted > 0.5


# Against the plain reference


@oracle
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "n_keys", "causal"),
    [(64, 64, True), (131, 131, True), (97, 97, True), (64, 64, False), (97, 64, False), (60, 131, False)],
)
def test_fast_and_naive_agree_in_output_and_every_gradient(kind: str, n: int, n_keys: int, causal: bool) -> None:
    qkv = tensors(n, n_keys)
    ours, theirs = hyper(qkv, KINDS[kind], causal=causal), naive(qkv, KINDS[kind], causal)
    shares = [torch.randn(x.shape, generator=seeded(2), dtype=x.dtype) for x in theirs]
    gradients = []
    for out, lse in (ours, theirs):
        gradients.append(torch.autograd.grad((out * shares[0]).sum() + (lse * shares[1]).sum(), qkv))
    assert kind == "no samples" or relative(ours[0], exact(qkv, causal)) > 1e-3, "the approximate path did not run"
    for mine, other in zip([*ours, *gradients[0]], [*theirs, *gradients[1]], strict=True):
        assert relative(mine, other) < 1e-12


WRONG = {
    "no Gray sequence": lambda x, w, c: gray_ranks(7).argsort()[angular_codes(x, w, c).long()],
    "another sign for the last direction": lambda x, w, c: angular_codes(x, w * torch.tensor([1.0] * 6 + [-1.0]), c),
    "one direction": lambda x, w, c: angular_codes(x, w[:, :1].expand_as(w), c),
    "no centre": lambda x, w, c: angular_codes(x, w),
}


@oracle
@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("causal", [True, False])
def test_a_wrong_hash_in_the_fast_path_does_not_agree(
    fault: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The naive form hashes by itself, so that the comparison above can fail."""
    qkv = [x.detach() for x in tensors(131)]
    monkeypatch.setattr(fast, "angular_codes", lambda *given: WRONG[fault](*given).to(torch.uint8))
    ours, theirs = hyper(qkv, KINDS["ours"], causal=causal)[0], naive(qkv, KINDS["ours"], causal)[0]
    assert relative(ours, theirs) > 1e-3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_output_alone_and_in_a_batch(kind: str, causal: bool) -> None:
    """The random numbers are those of heads, and the rows of a batch share them."""
    row, other = ([x[:1].detach() for x in tensors(300)], [x[1:].detach() for x in tensors(300)])
    alone = hyper(row, KINDS[kind], causal=causal)[0]
    first = hyper([torch.cat(pair) for pair in zip(row, other, strict=True)], KINDS[kind], causal=causal)[0][:1]
    second = hyper([torch.cat(pair) for pair in zip(other, row, strict=True)], KINDS[kind], causal=causal)[0][1:]
    assert relative(first, alone) < 1e-12
    assert relative(second, alone) < 1e-12


@oracle
def test_gradients_are_those_of_finite_differences() -> None:
    # Codes, and so blocks, are constant around almost every point.
    qkv = [x.detach()[:1, :2, :, :3].clone().requires_grad_() for x in tensors(21, key_heads=2)]
    settings = replace(KINDS["ours"], block_size=2, sample_size=2, min_seq_len=4, pin_first=1, pin_recent=1)
    assert torch.autograd.gradcheck(lambda *x: hyper(list(x), settings, causal=True), qkv)


@oracle
@pytest.mark.parametrize("causal", [True, False])
def test_the_fallback_without_a_fused_kernel_is_the_same(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = tensors(131)
    results = []
    for kernel in (kernels._kernel, lambda *_: ""):
        monkeypatch.setattr(kernels, "_kernel", kernel)
        out, lse = hyper(qkv, KINDS["ours"], causal=causal)
        results.append([out, lse, *torch.autograd.grad(out.sin().sum() + lse.sum(), qkv)])
    for fused, plain in zip(*results, strict=True):
        assert relative(fused, plain) < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_smaller_types_agree_within_their_rounding(dtype: torch.dtype, tolerance: float) -> None:
    # one block: a sign that rounding turns cannot move a query
    qkv = tensors(131, dtype=dtype)
    wide = [x.detach().to(torch.float32).requires_grad_() for x in qkv]
    settings = replace(SMALL, pin_first=2)
    out, lse = hyper(qkv, replace(settings, block_size=131), causal=False)
    reference, reference_lse = hyper(wide, replace(settings, block_size=131), causal=False)
    assert out.dtype == dtype
    assert lse.dtype == torch.float32
    assert relative(out, reference) < tolerance
    assert relative(lse, reference_lse) < tolerance
    found, wanted = (torch.autograd.grad(x.float().square().sum(), y) for x, y in ((out, qkv), (reference, wide)))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == dtype
        assert relative(ours, theirs) < 2 * tolerance


def test_the_approximation_in_bfloat16_is_as_near_as_in_float32() -> None:
    # not the same: a sign that rounding turns moves a query to another block
    qkv = [x.detach() for x in tensors(512, dtype=torch.bfloat16)]
    wide = [x.float() for x in qkv]
    settings = Settings(block_size=32, sample_size=64, min_seq_len=64, pin_first=8)
    errors = [relative(hyper(x, settings, causal=True)[0], exact(wide, True)) for x in (qkv, wide)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)


# Order and time


@oracle
def test_neighbouring_codes_differ_in_one_sign() -> None:
    for bits in (1, 3, 7):
        pattern_at = torch.empty(2**bits, dtype=torch.long)
        pattern_at[gray_ranks(bits).long()] = torch.arange(2**bits)
        changed = [int(a ^ b).bit_count() for a, b in pairwise(pattern_at.tolist())]
        assert set(changed) == {1}
        assert sorted(gray_ranks(bits).tolist()) == list(range(2**bits))


@oracle
def test_the_share_of_equal_signs_is_that_of_the_angle() -> None:
    angle = 0.7
    pair = torch.tensor([[[1.0, 0.0], [math.cos(angle), math.sin(angle)]]])
    directions = torch.randn(2, 4000, generator=seeded()).split(1, 1)
    same = [bool(codes[0, 0] == codes[0, 1]) for codes in (angular_codes(pair, one) for one in directions)]
    # 4000 draws of a share of 0.78: its standard error is 0.0066
    assert sum(same) / len(same) == pytest.approx(1 - angle / math.pi, abs=0.025)


def test_equal_codes_keep_their_order_and_length_does_not_change_a_code() -> None:
    codes = torch.tensor([[3, 1, 3, 1, 0]], dtype=torch.uint8)
    assert order_of(codes).tolist() == [[4, 1, 3, 0, 2]]
    x, directions = torch.randn(2, 30, 8, generator=seeded()), torch.randn(8, 7, generator=seeded(1))
    assert torch.equal(angular_codes(x, directions), angular_codes(5 * x, directions))


@oracle
def test_without_causality_the_order_of_keys_does_not_matter() -> None:
    # All different codes would be needed for blocks to be the same; one block and no samples leave only the merge.
    q, k, v = (x.detach() for x in tensors(64))
    moved = torch.randperm(64, generator=seeded(5))
    settings = replace(SMALL, sample_size=0, block_size=64)
    assert torch.allclose(hyper([q, k, v], settings)[0], hyper([q, k[:, :, moved], v[:, :, moved]], settings)[0])


@oracle
def test_queries_and_their_outputs_move_together() -> None:
    generator = seeded(7)
    q, k, v = (torch.randn(1, 1, 128, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    settings = Settings(block_size=128, sample_size=4, min_seq_len=1, sampling="uniform")
    moved = torch.randperm(128, generator=generator)
    assert torch.allclose(hyper([q[:, :, moved], k, v], settings)[0], hyper([q, k, v], settings)[0][:, :, moved])


@oracle
@pytest.mark.parametrize("n", [16, 17, 33, 64, 65, 100, 131, 1000])
def test_pieces_cover_the_lower_triangle_once(n: int) -> None:
    covered = torch.zeros(1, n, n)
    for piece in pieces(n, n, True, SMALL):
        for node in range(piece.nodes):
            row, column = piece.queries + node * piece.stride, piece.keys + node * piece.stride
            part = covered[0, row : row + piece.rows, column : column + piece.columns]
            assert part.shape == (piece.rows, piece.columns)
            part += torch.ones_like(part).tril() if piece.kind == "causal" else 1
    assert torch.equal(covered[0], torch.ones(n, n).tril())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("start", "poison"),
    [(16, torch.nan), (64, torch.nan), (128, torch.nan), (17, 1e6), (50, 1e6), (100, 1e6), (130, 1e6)],
)
def test_nothing_is_read_from_later_keys_and_values(kind: str, start: int, poison: float) -> None:
    # NaN from the edge of a leaf on; within one the fused kernel itself multiplies later values by a weight of zero
    qkv = [x.detach() for x in tensors(131)]
    clean = hyper(qkv, KINDS[kind], causal=True)[0]
    for x in qkv[1:]:
        x[:, :, start:] = poison
    out = hyper(qkv, KINDS[kind], causal=True)[0]
    assert torch.equal(out[:, :, :start], clean[:, :, :start])
    # of whole outputs: a single number may be close by chance
    assert not torch.isclose(out[:, :, start:], clean[:, :, start:]).all(-1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_later_queries_only_decide_which_earlier_keys_are_seen(kind: str) -> None:
    q, k, v = (x.detach() for x in tensors(131))
    q[:, :, 100:] = torch.nan
    out = hyper([q, k, v], KINDS[kind], causal=True)[0]
    assert out[:, :, :100].isfinite().all()
    largest = v.cummax(2).values.repeat_interleave(2, 1)[:, :, :100]
    assert (out[:, :, :100] <= largest + 1e-12).all()


# Cost


def test_the_number_of_pairs_grows_with_n_log_n() -> None:
    shares = [computed_pairs(n, True, MODEL) / (n * (n + 1) / 2) for n in (8192, 32768, 131072)]
    assert shares == pytest.approx([0.4063, 0.1407, 0.0449], rel=0.01)
    assert computed_pairs(131072, False, MODEL) == 131072 * (128 + 384 + 32)
    assert computed_pairs(2048, True, MODEL) == 2048 * 2049 // 2
    assert computed_pairs(4096, True, PAPER) == 4096 * 4097 // 2


def test_a_long_input_needs_no_square_memory() -> None:
    """32768 tokens, one head: a matrix of all pairs would take 4 GiB in float32."""
    code = """
import resource, torch
torch.set_num_threads(1)
from letheon.attend import hyper_attention
from letheon.attend.hyper import MODEL
q, k, v = (torch.randn(1, 1, 32768, 8, requires_grad=True) for _ in range(3))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
hyper_attention(q, k, v, causal=True, **(vars(MODEL) | {"min_seq_len": 512})).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kibibytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kibibytes < 400 * 1024


def test_no_matrix_of_scores_is_ever_built() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        hyper([torch.randn(1, 2, 600, 8) for _ in range(3)], SMALL, causal=True)
    names = [event.key for event in seen.key_averages()]
    assert any("flash_attention_for_cpu" in name for name in names)
    assert not any(name in ("aten::bmm", "aten::softmax", "aten::_softmax") for name in names)


# What is refused, what is random


def test_one_generator_gives_one_result_and_another_gives_another() -> None:
    qkv = [x.detach() for x in tensors(131)]
    first, again, other = (hyper(qkv, SMALL, seed, causal=True)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures("unchecked_shapes")
def test_torch_compile_leaves_it_as_it_is() -> None:
    qkv = [x.detach() for x in tensors(131, dtype=torch.float32)]
    # the backend only matters for what is around it; "eager" needs no compiler
    compiled = torch.compile(lambda *x: 2 * hyper(list(x), SMALL, causal=True)[0], backend="eager")
    assert torch.allclose(compiled(*qkv), 2 * hyper(qkv, SMALL, causal=True)[0])


@pytest.mark.parametrize(
    ("shapes", "options", "says"),
    [
        (((1, 2, 8, 4), (1, 2, 8, 4), (1, 2, 9, 4)), {}, "shapes do not fit"),
        (((2, 8, 4), (2, 8, 4), (2, 8, 4)), {}, "shapes do not fit"),
        (((1, 3, 8, 4), (1, 2, 8, 4), (1, 2, 8, 4)), {}, "heads do not fit"),
        (((1, 2, 8, 4), (1, 2, 9, 4), (1, 2, 9, 4)), {"causal": True}, "causal with 8 queries and 9 keys"),
        (((1, 2, 8, 4),) * 3, {"block_size": 0}, "block_size is 0"),
        (((1, 2, 8, 4),) * 3, {"lsh_num_projs": 9}, "codes are bytes"),
        (((1, 2, 8, 4),) * 3, {"sampling": "best"}, "sampling is 'best'"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_what_does_not_fit_is_refused(shapes: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        hyper_attention(*(torch.zeros(shape) for shape in shapes), **options)
