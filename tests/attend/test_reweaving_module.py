"""Reweaving on tensors: relevance and reconstruction by hand, gradients, memory, types; the module's own promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from letheon.attend.addon import Call
from letheon.attend.reweaving import Reweaving, Settings, reconstruct, relevance
from letheon.core.errors import InputError

oracle = pytest.mark.oracle("reweaving")


def states(n: int, width: int = 8, rows: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The output of four layers."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, n, width, generator=generator).to(dtype) for _ in range(4)]


def woven(module: Reweaving, hidden: list[Tensor], call: Call | None = None) -> Tensor:
    """The edited layer's output."""
    call = call or Call()
    edits = module.edits()
    outputs = {site.layer: change(hidden[site.layer], call) for site, change in edits.items()}
    return outputs[module.inject]


def module(**settings: object) -> Reweaving:
    """With weights none of which is zero."""
    torch.manual_seed(0)
    made = Reweaving(8, 4, Settings(**{"width": 4, "bottleneck": 4, "window": 2, **settings}))  # type: ignore[arg-type]
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


@oracle
def test_relevance_by_hand() -> None:
    queries = torch.tensor([[[2.0, 0.0]]])
    keys = torch.tensor([[[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]])
    salience = torch.tensor([[[0.0, 0.5, 9.0]]])
    allowed = torch.tensor([[[True, True, False]]])
    a, b = math.exp(2 / math.sqrt(2)), math.exp(0.5)
    found = relevance(queries, keys, salience, allowed)
    assert torch.allclose(found, torch.tensor([[[[a / (a + b), b / (a + b), 0.0]]]]))
    assert relevance(queries, keys, salience, allowed, top_k=1).tolist() == [[[[1.0, 0.0, 0.0]]]]
    assert relevance(queries, keys, salience, torch.zeros_like(allowed)).tolist() == [[[[0.0, 0.0, 0.0]]]]


@oracle
def test_reconstruction_is_the_mixed_sum_over_layers_and_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    beta, values = torch.rand(2, 3, 5, 7, generator=generator), torch.randn(2, 3, 7, 4, generator=generator)
    mix = torch.rand(2, 5, 3, generator=generator)
    wanted = torch.zeros(2, 5, 4)
    for c in range(3):
        for s in range(7):
            wanted += mix[:, :, c, None] * beta[:, c, :, s, None] * values[:, c, None, s]
    assert torch.allclose(reconstruct(beta, values, mix), wanted, atol=1e-6)


@oracle
@pytest.mark.parametrize("top_k", [0, 2])
def test_gradients_are_those_of_finite_differences(top_k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 3, 2), (1, 2, 5, 2), (1, 2, 5), (1, 2, 5, 2), (1, 3, 2)]
    given = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    allowed = torch.ones(1, 3, 5, dtype=torch.bool).tril(1)

    def rebuilt(queries: Tensor, keys: Tensor, salience: Tensor, values: Tensor, mix: Tensor) -> Tensor:
        return reconstruct(relevance(queries, keys, salience, allowed, top_k), values, mix.softmax(-1))

    assert torch.autograd.gradcheck(rebuilt, given)


@oracle
def test_the_module_is_its_formula() -> None:
    one, hidden = module(), states(9)
    present = one.norm(hidden[2])
    total = torch.zeros(2, 9, 4)
    for i, layer in enumerate(one.capture):
        z = one.captured[i](hidden[layer])
        columns = one.keys[i](z)
        scores = one.query(present) @ columns[..., :4].mT / 2 + columns[:, None, :, 4]
        far = (torch.arange(9)[:, None] - torch.arange(9)) >= 2
        beta = scores.masked_fill(~far, -math.inf).softmax(-1).nan_to_num(0.0)
        total += one.mix(present).softmax(-1)[..., i, None] * (beta @ one.values[i](z))
    gate = torch.sigmoid(one.gate(torch.cat([present, total], -1)))
    assert torch.allclose(woven(one, hidden), hidden[2] + gate * one.output(one.mixed(total)), atol=1e-5)


def test_layers_are_those_at_the_quarters_unless_given() -> None:
    assert (Reweaving(8, 4, Settings()).capture, Reweaving(8, 30, Settings()).capture) == ((0, 1, 2), (6, 14, 21))
    edited = Reweaving(8, 30, Settings(capture=(3,), inject=9)).edits()
    assert [site.layer for site in edited] == [3, 9]


def test_recent_tokens_are_left_to_attention() -> None:
    one, hidden = module(window=4), states(9)
    others = [h.clone() for h in hidden]
    for h in others[:2]:
        h[:, 6:] = 0.0  # what layers 0 and 1 left at the last three tokens is within the window of all
    assert torch.allclose(woven(one, hidden), woven(one, others), atol=1e-6)
    assert torch.equal(woven(module(window=9), hidden), woven(module(window=20), hidden))


def test_the_penalty_is_that_of_the_last_pass_with_gradients_and_reaches_what_is_rebuilt() -> None:
    one, hidden = module(), states(9)
    assert float(one.penalty()) == 0
    woven(one, hidden)
    penalty = one.penalty()
    assert 0 < float(penalty.detach()) < 0.1 * 2 + 1e-3
    penalty.backward()
    assert all(bool(p.grad is not None and p.grad.any()) for p in [one.decode.weight, one.values[0].weight])
    with torch.no_grad():
        woven(one, hidden)
    assert float(one.penalty()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_output_has_the_type_of_the_model(dtype: torch.dtype) -> None:
    assert woven(module(), states(9, dtype=dtype)).dtype == dtype


def test_long_inputs_need_no_square_of_memory(largest_tensor: Callable[[Callable[[], object]], int]) -> None:
    n, one = 2_000, module()
    hidden = states(n, rows=1)
    with torch.inference_mode():
        # scores of all pairs in three layers would be 48 MB, those of 256 queries are 6 MB
        assert largest_tensor(lambda: woven(one, hidden)) < 8e6


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("unchecked_shapes")
def test_it_compiles(backend: str) -> None:
    one, hidden = module(), states(12)
    compiled = torch.compile(lambda *layers: woven(one, list(layers)), backend=backend)
    with torch.inference_mode():
        assert torch.allclose(compiled(*hidden), woven(one, hidden), atol=1e-5)


def test_odd_settings_are_refused() -> None:
    with pytest.raises(InputError, match="window: found 0"):
        Settings(window=0)
    with pytest.raises(InputError, match="top_k: found -1"):
        Settings(top_k=-1)
