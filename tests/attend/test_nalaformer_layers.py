"""Norm-aware linear attention by hand, one weight a pair, as a running sum; what the norm does; nothing quadratic."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from letheon.attend.linear import (
    attention_entropy,
    elu_features,
    linear_attention,
    linear_weights,
    relu_features,
)
from letheon.attend.nalaformer import (
    GatedAttention,
    key_features,
    nala_attention,
    nala_weights,
    query_features,
)
from letheon.attend.rotary import Rotary, rotary_of, rotate, row_and_column
from letheon.core.errors import InputError

oracle = pytest.mark.oracle("nalaformer")


def tensors(n: int, n_keys: int = 0, d: int = 8, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v of two rows and three heads, with gradients."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 3, n, d), (2, 3, n_keys or n, d), (2, 3, n_keys or n, d)]
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


# The maps


@oracle
def test_the_maps_by_hand() -> None:
    power = 3 * (0.5 + math.tanh(5))
    found = query_features(torch.tensor([3.0, -4.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.6**power, 0, 0, 0.8**power])
    assert key_features(torch.tensor([2.0, -3.0])).tolist() == [8, 0, 0, 27]
    # sum over coordinates with equal signs of |q̂|^p |k|³, and nothing from the others
    q, k = torch.tensor([[[[3.0, -4.0]]]]), torch.tensor([[[[2.0, -3.0], [-2.0, -3.0], [-2.0, 3.0]]]])
    scores = (query_features(q) @ key_features(k).mT)[0, 0, 0]
    assert scores.tolist() == pytest.approx([0.6**power * 8 + 0.8**power * 27, 0.8**power * 27, 0])


@oracle
def test_the_split_keeps_the_norm_with_both_angles_and_they_agree_where_all_directions_are_whole() -> None:
    u = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for angle in ("sign", "smooth"):
        assert torch.allclose(key_features(u, angle=angle).norm(dim=-1), (u.abs() ** 3).norm(dim=-1))  # type: ignore[arg-type]
    whole = torch.eye(4, dtype=torch.float64) * torch.tensor([2.0, -3.0, 1.0, -1.0])
    assert torch.allclose(key_features(whole), key_features(whole, angle="smooth"), atol=1e-12)


@oracle
def test_entropy_falls_with_the_norm_of_the_query_as_softmax_does_and_relu_does_not_feel_it() -> None:
    q, k, _ = (x.detach() for x in tensors(32, 128))
    q = q / q.norm(dim=-1, keepdim=True)
    maps: dict[str, Any] = {
        "softmax": lambda q: (q @ k.mT).softmax(-1),
        "nala": lambda q: nala_weights(q, k, eps=0),
        "frozen": lambda q: nala_weights(q, k, norm_scale=0, eps=0),
        "relu": lambda q: linear_weights(relu_features(q), relu_features(k), eps=0),
    }
    entropy = {
        name: [float(attention_entropy(weights(c * q)).mean()) for c in (0.25, 0.5, 1, 2)]
        for name, weights in maps.items()
    }
    for name in ("softmax", "nala"):
        assert entropy[name] == sorted(entropy[name], reverse=True)
        assert entropy[name][0] - entropy[name][-1] > 0.05
    for name in ("relu", "frozen"):
        assert max(entropy[name]) - min(entropy[name]) < 1e-9
    assert float(nala_weights(q, k).min()) >= 0


def test_elu_plus_one_is_not_homogeneous_and_feels_the_norm_a_little() -> None:
    q, k, _ = (x.detach() for x in tensors(32, 128))
    short, long = (attention_entropy(linear_weights(elu_features(c * q), elu_features(k))).mean() for c in (0.1, 10))
    assert 0 < float(short - long) < 0.1


def test_entropy_of_even_weights_is_log_n_and_of_a_single_one_zero() -> None:
    found = attention_entropy(torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]]))
    assert found.tolist() == pytest.approx([math.log(4), 0])


# The sums


@oracle
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_the_linear_form_is_the_explicit_one(n: int, causal: bool) -> None:
    q, k, v = tensors(n)
    assert torch.allclose(nala_attention(q, k, v, causal=causal), nala_weights(q, k, causal=causal) @ v, atol=1e-12)
    single = [x.detach().float() for x in (q, k, v)]
    explicit = nala_weights(*single[:2], causal=causal) @ single[2]
    assert float((nala_attention(*single, causal=causal) - explicit).abs().max()) < 1e-5


@oracle
def test_causal_attention_is_a_running_sum_also_with_rotary_positions() -> None:
    q, k, v = (x.detach() for x in tensors(70))
    rotary = rotary_of(torch.arange(70, dtype=torch.float64), 8)
    for turn in (False, True):
        phi_q, phi_k = query_features(q), key_features(k)
        above_q, above_k = phi_q, phi_k
        if turn:
            above_q, above_k = (torch.cat([rotate(h, rotary) for h in x.chunk(2, -1)], -1) for x in (phi_q, phi_k))
        state, total, rows = torch.zeros(2, 3, 16, 8, dtype=q.dtype), torch.zeros(2, 3, 16, dtype=q.dtype), []
        for t in range(70):
            state = state + above_k[..., t, :, None] * v[..., t, None, :]
            total = total + phi_k[..., t, :]
            below = (phi_q[..., t, :] * total).sum(-1, keepdim=True) + (t + 1) * 1e-6
            rows.append((above_q[..., t, None, :] @ state)[..., 0, :] / below)
        found = nala_attention(q, k, v, causal=True, rotary=rotary if turn else None)
        assert torch.allclose(found, torch.stack(rows, -2), atol=1e-10)


@oracle
@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("key_heads", [1, 3])
def test_grouped_heads_are_repeated_keys_and_values(key_heads: int, causal: bool, turn: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, h, 70, 8, generator=generator).double() for h in (6, key_heads, key_heads))
    given = [x.requires_grad_() for x in (q, k, v)]
    rotary = rotary_of(torch.arange(70, dtype=torch.float64), 8) if turn else None
    found = nala_attention(*given, causal=causal, rotary=rotary)
    repeated = [q, *(x.repeat_interleave(6 // key_heads, 1) for x in (k, v))]
    wanted = nala_attention(*repeated, causal=causal, rotary=rotary)
    assert torch.allclose(found, wanted, atol=1e-12)
    share = torch.randn(found.shape, generator=generator).double()
    for ours, theirs in zip(*(torch.autograd.grad(x, given, share) for x in (found, wanted)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_no_query_sees_what_comes_later() -> None:
    q, k, v = (x.detach() for x in tensors(100))
    before = nala_attention(q, k, v, causal=True)
    k[..., 70:, :], v[..., 70:, :] = 9, 9
    assert torch.equal(nala_attention(q, k, v, causal=True)[..., :70, :], before[..., :70, :])


@oracle
@pytest.mark.parametrize("angle", ["sign", "smooth"])
@pytest.mark.parametrize("causal", [False, True])
def test_gradients(causal: bool, angle: Any) -> None:
    q, k, v = (x[:1, :1].detach().requires_grad_() for x in tensors(66, d=2))
    rotary = rotary_of(torch.arange(66, dtype=torch.float64), 2)
    assert torch.autograd.gradcheck(
        lambda *x: nala_attention(*x, causal=causal, angle=angle, rotary=rotary), (q, k, v), fast_mode=True
    )


def test_a_query_of_zeros_and_a_zero_coordinate_have_results_and_gradients() -> None:
    q, k, v = tensors(4)
    zeroed = torch.cat([torch.zeros_like(q[..., :2, :]), q[..., 2:, :] * (torch.arange(8) > 0)], -2).detach()
    zeroed.requires_grad_()
    nala_attention(zeroed, k, v).sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in (zeroed, k, v) if x.grad is not None)
    assert zeroed.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single_also_under_autocast(dtype: torch.dtype) -> None:
    half = [x.detach().to(dtype) for x in tensors(100, d=64)]
    exact = nala_attention(*(x.float() for x in half))
    found = nala_attention(*half)
    assert found.dtype == dtype
    assert torch.equal(found, exact.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nala_attention(*(x.float() for x in half)), exact)


@pytest.mark.parametrize("causal", [False, True])
def test_operations_grow_linearly_with_the_number_of_tokens(causal: bool) -> None:
    counts = []
    for n in (1024, 2048, 4096):
        with FlopCounterMode(display=False) as counter:
            nala_attention(*(x.detach() for x in tensors(n, d=4)), causal=causal)
        counts.append(counter.get_total_flops())
    assert counts[1] == 2 * counts[0]
    assert counts[2] == 4 * counts[0]


def test_a_long_input_needs_no_square_memory() -> None:
    """32768 tokens, one head: a matrix of all pairs would take 4 GiB in float32."""
    code = """
import resource, torch
torch.set_num_threads(1)
from letheon.attend import nala_attention
q, k, v = (torch.randn(1, 1, 32768, 8, requires_grad=True) for _ in range(3))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nala_attention(q, k, v, causal=True).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kibibytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kibibytes < 400 * 1024


@pytest.mark.parametrize(("backend", "n"), [("eager", 70), pytest.param("inductor", 130, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("unchecked_shapes")
def test_it_can_be_compiled(backend: str, n: int) -> None:
    q, k, v = tensors(n, dtype=torch.float32)
    compiled = torch.compile(nala_attention, backend=backend, fullgraph=True)
    for causal in (False, True):
        assert torch.allclose(compiled(q, k, v, causal=causal), nala_attention(q, k, v, causal=causal), atol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "options", "says"),
    [
        (((1, 2, 8, 4), (1, 2, 8, 4), (1, 2, 9, 4)), {}, "shapes do not fit"),
        (((1, 2, 8, 4), (1, 1, 8, 4), (1, 2, 8, 4)), {}, "shapes do not fit"),
        (((1, 3, 8, 4), (1, 2, 8, 4), (1, 2, 8, 4)), {}, "3 query heads and 2 key heads"),
        (((2, 8, 4),) * 3, {}, "shapes do not fit"),
        (((1, 2, 8, 4), (1, 2, 9, 4), (1, 2, 9, 4)), {"causal": True}, "8 queries and 9 keys"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_what_does_not_fit_is_refused(shapes: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        nala_attention(*(torch.zeros(shape) for shape in shapes), **options)


# The block


@oracle
def test_rotary_positions_are_relative_and_keep_lengths() -> None:
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = rotary_of(torch.arange(12, dtype=torch.float64), 8)

    def turned(i: int, place: int) -> Tensor:
        return rotate(x[i], Rotary(at.sin[place], at.cos[place]))

    assert torch.allclose(turned(0, 7).norm(), x[0].norm())
    assert torch.allclose(turned(0, 3) @ turned(1, 1), turned(0, 10) @ turned(1, 8))
    by_cell = row_and_column(3, 4, 8, x)
    assert torch.allclose(by_cell.sin[4 * 2 + 3, :4], rotary_of(torch.tensor(2.0).double(), 4).sin)
    assert torch.allclose(by_cell.sin[4 * 2 + 3, 4:], rotary_of(torch.tensor(3.0).double(), 4).sin)


@oracle
def test_the_block_is_the_formula_of_its_parts() -> None:
    torch.manual_seed(0)
    block = GatedAttention(8, 2).double()
    x = torch.randn(1, 3, 4, 8, dtype=torch.float64)
    rotary = row_and_column(3, 4, 4, x)
    q, k, v, g = block.qkvg(x).reshape(12, 4, 2, 4).permute(1, 2, 0, 3)  # [heads, cells, d] each
    phi_q, phi_k = query_features(q), key_features(k)
    above = sum(
        rotate(a, rotary) @ rotate(b, rotary).mT for a, b in zip(phi_q.chunk(2, -1), phi_k.chunk(2, -1), strict=True)
    )
    mean = (phi_q @ phi_k.mT).mean(-1, keepdim=True)
    mixed = (above @ v / 12 / (mean + 1e-6)).transpose(0, 1).reshape(1, 3, 4, 8)
    local = block.local(v.transpose(0, 1).reshape(1, 3, 4, 8))
    gate = torch.nn.functional.silu(g.transpose(0, 1).reshape(1, 3, 4, 8))
    assert torch.allclose(block(x, rotary), block.out(block.norm(mixed + local) * gate))


def test_gradients_of_the_block() -> None:
    torch.manual_seed(0)
    for linear in (True, False):
        block = GatedAttention(8, 2, linear).double()
        x = torch.randn(1, 3, 3, 8, dtype=torch.float64, requires_grad=True)
        rotary = row_and_column(3, 3, 4, x.detach())
        assert torch.autograd.gradcheck(lambda x, block=block, rotary=rotary: block(x, rotary), x, fast_mode=True)


def test_linear_attention_takes_more_keys_than_queries() -> None:
    q, k, v = tensors(3, 5)
    phi_q, phi_k = relu_features(q), relu_features(k)
    assert torch.allclose(linear_attention(phi_q, phi_k, v), linear_weights(phi_q, phi_k) @ v)
