"""Synaptic resonance on tensors: a step by hand, limits that are other rules, bounded growth, gradients, its cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from letheon.attend.addon import Call
from letheon.attend.fast_weights import fast_weights
from letheon.attend.resonance import Resonance, Settings, Synapses, SynapticResonance, resonate
from letheon.core.errors import InputError, LetheonError

oracle = pytest.mark.oracle("resonance")


def tensors(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of two rows and two heads of width 3; q and k of length 1."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, n, 3, generator=generator, dtype=dtype) for _ in range(3))
    return q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True), v


def drive(relevance: Tensor, **changes: float) -> Resonance:
    values = {"sharpness": 4.0, "offset": 0.0, "decay": 0.1, "rate": 0.5, **changes}
    cap = values.pop("cap", 1e9)
    return Resonance(relevance, *(relevance.new_full((relevance.shape[1],), x) for x in values.values()), cap=cap)


def run(q: Tensor, k: Tensor, v: Tensor, driven: Resonance) -> tuple[Tensor, Tensor, Tensor]:
    return resonate(
        q, k, v, driven, q.new_ones(len(q), q.shape[2]), q.new_zeros(*q.shape[:2], q.shape[-1], q.shape[-1])
    )


@oracle
def test_two_steps_by_hand() -> None:
    one = torch.ones(1, 1, 2, 1, dtype=torch.float64)
    v = torch.tensor([2.0, 3.0], dtype=torch.float64).view(1, 1, 2, 1)
    read, state, rho = run(one, one, v, drive(torch.full((1, 1, 2), 0.8, dtype=torch.float64)))
    # first nothing is predicted, so agreement is 0 and rho = sigmoid(0) * 0.8: half of 0.8 * 0.6 * 2 + 0.4 * 2
    first = 0.88
    # then: prediction and value point one way, rho = sigmoid(4) * 0.8
    second = 0.8 / (1 + math.exp(-4))
    update = 0.5 * (0.8 * (1 - second) * (3 - first) + second * 3)
    assert read.flatten().tolist() == pytest.approx([0.0, first])
    assert rho.flatten().tolist() == pytest.approx([0.4, second])
    assert float(state) == pytest.approx(0.9 * first + update)


@oracle
def test_without_resonance_it_is_the_delta_rule_and_with_it_alone_hebb() -> None:
    q, k, v = tensors(12)
    relevance = torch.ones(2, 2, 12, dtype=torch.float64)
    keep, rate = torch.full((2,), 0.9, dtype=torch.float64), torch.full((2, 2, 12), 0.5, dtype=torch.float64)
    for offset, correct in ((-100.0, 0.5), (100.0, 0.0)):
        read, state, rho = run(q, k, v, drive(relevance, offset=offset))
        wanted, last = fast_weights(q, k, v, rate, rate * correct / 0.5, keep, read="before")
        assert rho.mean() == pytest.approx(float(offset > 0))
        assert torch.allclose(read, wanted, atol=1e-12)
        assert torch.allclose(state, last, atol=1e-12)


@oracle
@pytest.mark.parametrize("cap", [1.0, 1e9])
def test_gradients_are_those_of_finite_differences(cap: float) -> None:
    """Of everything that is learned: queries, keys, values, relevance, kappa, tau, lambda and eta."""
    relevance = torch.rand(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scalars = [torch.full((2,), x, dtype=torch.float64) for x in (4.0, 0.1, 0.1, 0.5)]
    given = [x.requires_grad_() for x in (*tensors(3), relevance, *scalars)]
    assert torch.autograd.gradcheck(lambda q, k, v, *rest: run(q, k, v, Resonance(*rest, cap=cap))[0], given)


@oracle
def test_without_writing_nothing_is_read() -> None:
    made, x = layer_and_input("resonance")
    with torch.no_grad():
        made.beside["1"].rate.fill_(-1e3)
    assert float(made.beside["1"](x, Call(), "a").detach().abs().max()) == 0


def test_ten_thousand_times_the_same_stay_bounded() -> None:
    one = torch.ones(1, 1, 10_000, 1)
    with torch.inference_mode():
        read, state, rho = run(one, one, 5 * one, drive(torch.full((1, 1, 10_000), 0.99), decay=1e-4, cap=3.0))
    assert float(state.norm()) <= 3.0 + 1e-5
    assert read.isfinite().all()
    assert float(rho.max()) < 1


def test_padding_writes_nothing_and_lets_nothing_decay() -> None:
    q, k, v = tensors(6)
    relevance = torch.ones(2, 2, 6, dtype=torch.float64)
    zero, real = torch.zeros(2, 2, 3, 3, dtype=torch.float64), torch.ones(2, 6, dtype=torch.float64)
    real[:, :2] = 0
    read, state, _ = resonate(q, k, v, drive(relevance), real, zero)
    short = [x[:, :, 2:] for x in (q, k, v)]
    wanted, last, _ = resonate(*short, drive(relevance[..., 2:]), real[:, 2:], zero)
    assert torch.allclose(read[:, :, 2:], wanted)
    assert torch.allclose(state, last)


def layer_and_input(rule: str, n: int = 10) -> tuple[SynapticResonance, Tensor]:
    torch.manual_seed(0)
    made = SynapticResonance(8, 4, Settings(layers=(1,), width=4, rule=rule))  # type: ignore[arg-type]
    for parameter in made.beside["1"].output.parameters():
        nn.init.normal_(parameter)
    return made, torch.randn(2, n, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rule", ["resonance", "hebb", "delta"])
def test_each_rule_reads_what_earlier_tokens_wrote_and_goes_on_from_its_cache(rule: str) -> None:
    from transformers import DynamicCache

    made, x = layer_and_input(rule)
    beside = made.beside["1"]
    whole = beside(x, Call(), "a")
    assert float(whole[:, 0].detach().abs().max()) == 0  # the first token finds nothing
    assert float(whole[:, 1:].detach().abs().max()) > 0
    cache = DynamicCache()
    parts = [beside(x[:, :7], Call(cache=cache), "a"), beside(x[:, 7:], Call(cache=cache, before=7), "a")]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)
    assert cache.layers[0].seen() == 10


def test_trees_and_cropping_are_refused_in_words() -> None:
    made, x = layer_and_input("resonance")
    with pytest.raises(LetheonError, match="branches"):
        made.beside["1"](x, Call(mask=torch.zeros(2, 1, 10, 10)), "a")
    with pytest.raises(LetheonError, match="cannot forget single tokens"):
        Synapses("a").crop(-1)


def test_layers_are_spread_evenly_unless_given_and_must_be_there() -> None:
    assert SynapticResonance(8, 30, Settings(width=4)).at == (0, 7, 15, 22)
    with pytest.raises(InputError, match="the model has 4"):
        SynapticResonance(8, 4, Settings(layers=(4,)))
    with pytest.raises(InputError, match="rule: found 'titans'"):
        Settings(rule="titans")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_output_has_the_type_of_the_model_and_the_state_is_float32(dtype: torch.dtype) -> None:
    made, x = layer_and_input("resonance")
    call, edits = Call(), list(made.edits().values())
    assert edits[1](edits[0](x.to(dtype), call), call).dtype == dtype
    assert made.beside["1"].rho is not None
    assert made.beside["1"].rho.dtype == torch.float32


@pytest.mark.parametrize(("rule", "n"), [("resonance", 256), ("hebb", 1024), ("delta", 1024)])
def test_long_inputs_need_no_square_of_memory(
    rule: str, n: int, largest_tensor: Callable[[Callable[[], object]], int]
) -> None:
    made, x = layer_and_input(rule, n)
    # less than a number for each pair of tokens of one row and head; there are four of these
    assert largest_tensor(lambda: made.beside["1"](x, Call(), "a").sum().backward()) < 4 * n * n


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("unchecked_shapes")
def test_it_compiles(backend: str) -> None:
    q, k, v = tensors(6, torch.float32)
    driven = drive(torch.ones(2, 2, 6), cap=1.0)
    compiled = torch.compile(lambda q, k, v: run(q, k, v, driven)[0], backend=backend)
    assert torch.allclose(compiled(q, k, v), run(q, k, v, driven)[0], atol=1e-5)
