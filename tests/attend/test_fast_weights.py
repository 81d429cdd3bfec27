"""Fast weights in chunks: the recursion token by token, however the tokens are cut; nothing quadratic."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from letheon.attend.fast_weights import fast_weights


def tensors(n: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v of two rows and three heads, k of length 1; then write, correct a token and keep a head."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, d, generator=generator, dtype=dtype) for d in (4, 4, 5))
    write, correct = (torch.rand(2, 3, n, generator=generator, dtype=dtype) for _ in range(2))
    keep = torch.rand(3, generator=generator, dtype=dtype) / 2 + 0.5
    return [q, k / k.norm(dim=-1, keepdim=True), v, write, correct, keep]


def stepwise(
    q: Tensor, k: Tensor, v: Tensor, write: Tensor, correct: Tensor, keep: Tensor, read: str
) -> tuple[Tensor, Tensor]:
    state, outputs = torch.zeros(2, 3, 5, 4, dtype=q.dtype), []
    for t in range(q.shape[2]):
        predicted = (state @ k[:, :, t, :, None])[..., 0]
        update = write[:, :, t, None] * v[:, :, t] - correct[:, :, t, None] * predicted
        later = keep[:, None, None] * state + update[..., None] * k[:, :, t, None]
        outputs.append(((later if read == "after" else state) @ q[:, :, t, :, None])[..., 0])
        state = later
    return torch.stack(outputs, 2), state


@pytest.mark.oracle("pavlovian")
@pytest.mark.parametrize("read", ["after", "before"])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_equal_the_recursion(chunk: int, read: str) -> None:
    given = tensors(20)
    found, state = fast_weights(*given, chunk=chunk, read=read)
    wanted, last = stepwise(*given, read)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert torch.allclose(state, last, atol=1e-12)


@pytest.mark.oracle("pavlovian")
def test_gradients_are_those_of_finite_differences() -> None:
    given = [x.requires_grad_() for x in tensors(5)]
    assert torch.autograd.gradcheck(lambda *x: fast_weights(*x, chunk=3), given)


def test_a_state_goes_on_where_it_was_left() -> None:
    q, k, v, write, correct, keep = tensors(20)
    whole, last = fast_weights(q, k, v, write, correct, keep)
    first, state = fast_weights(q[:, :, :9], k[:, :, :9], v[:, :, :9], write[..., :9], correct[..., :9], keep)
    second, state = fast_weights(q[:, :, 9:], k[:, :, 9:], v[:, :, 9:], write[..., 9:], correct[..., 9:], keep, state)
    assert torch.allclose(torch.cat([first, second], 2), whole)
    assert torch.allclose(state, last)


@pytest.mark.parametrize("correct", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outputs_have_the_type_of_the_values_and_the_state_is_at_least_single(
    dtype: torch.dtype, correct: float
) -> None:
    q, k, v, *_ = tensors(9, dtype)
    out, state = fast_weights(q, k, v, 0.5, correct)
    assert (out.dtype, state.dtype) == (dtype, torch.promote_types(dtype, torch.float32))
    assert (out.shape, state.shape) == ((2, 3, 9, 5), (2, 3, 5, 4))
    exact = fast_weights(*(x.double() for x in (q, k, v)), 0.5, correct)[0]
    assert torch.allclose(out.double(), exact, atol=1e-5 if dtype != torch.bfloat16 else 0.02, rtol=0.01)


@pytest.mark.parametrize("correct", [0.0, 0.5])
def test_long_inputs_need_no_square_of_memory(
    correct: float, largest_tensor: Callable[[Callable[[], object]], int]
) -> None:
    n = 20_000
    q, k, v = (torch.randn(1, n, 4, generator=torch.Generator().manual_seed(i), requires_grad=True) for i in range(3))
    unit = torch.nn.functional.normalize(k, dim=-1)
    # n x n is 1.6 GB, n x 64 is 5 MB
    assert largest_tensor(lambda: fast_weights(q, unit, v, 0.5, correct)[0].sum().backward()) < 8e6


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("unchecked_shapes")
def test_it_compiles(backend: str) -> None:
    q, k, v, write, correct, keep = (x.float() for x in tensors(20))
    compiled = torch.compile(fast_weights, backend=backend, fullgraph=True)
    wanted = fast_weights(q, k, v, write, correct, keep, chunk=16)[0]
    assert torch.allclose(compiled(q, k, v, write, correct, keep, chunk=16)[0], wanted, atol=1e-5)
