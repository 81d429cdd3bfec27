"""Attention as conditioning: rules against hand-worked numbers, phenomena that tell rules apart, capacity, chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from letheon.attend.pavlovian import (
    AssociativeMemory,
    Name,
    Rule,
    chain_accuracy,
    condition,
    condition_stepwise,
    effective_dimension,
    expected_fidelity,
    recall_fidelity,
    run_protocol,
    worst_case_capacity,
)
from letheon.core.errors import InputError

oracle = pytest.mark.oracle("pavlovian")
RULES = get_args(Name)


def tensors(n: int = 70, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    keys, values, queries = (torch.randn(2, n, d, generator=generator, dtype=dtype) for d in (6, 5, 6))
    return keys / keys.norm(dim=-1, keepdim=True), values / 3, queries


@oracle
@pytest.mark.parametrize("name", RULES)
def test_chunks_equal_the_trials_one_by_one(name: Name) -> None:
    keys, values, queries = tensors()
    rule = Rule(name, eta=0.1)
    assert torch.allclose(condition(keys, values, queries, rule), condition_stepwise(keys, values, queries, rule))


@oracle
def test_linear_attention_is_the_hebbian_recursion() -> None:
    keys, values, queries = tensors()
    assert torch.allclose((queries @ keys.mT).tril() @ values, condition(keys, values, queries, Rule()), atol=1e-12)


@oracle
@pytest.mark.parametrize("name", RULES)
def test_gradients_are_those_of_finite_differences(name: Name) -> None:
    given = [x.requires_grad_() for x in tensors(4)]
    assert torch.autograd.gradcheck(lambda *x: condition(*x, Rule(name)), given)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_responses_have_the_shape_and_type_of_the_outcomes(dtype: torch.dtype, name: Name) -> None:
    keys, values, queries = tensors()
    found = condition(*(x.to(dtype) for x in (keys, values, queries)), Rule(name, eta=0.1))
    assert (found.shape, found.dtype) == ((2, 70, 5), dtype)
    exact = condition(keys, values, queries, Rule(name, eta=0.1))
    assert float((found.double() - exact).norm() / exact.norm()) < (1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("name", [name for name in RULES if name != "oja"])
def test_long_inputs_need_no_square_of_memory(
    name: Name, largest_tensor: Callable[[Callable[[], object]], int]
) -> None:
    given = [x.requires_grad_() for x in tensors(4000, torch.float32)]
    # two rows of n x n are 128 MB, of n x 64 2 MB
    assert largest_tensor(lambda: condition(*given, Rule(name, eta=0.1)).sum().backward()) < 8e6


@pytest.mark.parametrize("name", ["hebb", "gated_delta", "bcm", "trace"])
@pytest.mark.usefixtures("unchecked_shapes")
def test_rules_can_be_compiled(name: Name) -> None:
    given = tensors(dtype=torch.float32)
    compiled = torch.compile(condition, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(*given, Rule(name, eta=0.1)), condition(*given, Rule(name, eta=0.1)), atol=1e-5)


@oracle
@pytest.mark.parametrize("trials", [1, 3, 10])
def test_acquisition_by_hand(trials: int) -> None:
    def learned(rule: Rule) -> float:
        return run_protocol(f"A+ x{trials}; test A", rule)["A"]

    assert learned(Rule("hebb", eta=0.2)) == pytest.approx(0.2 * trials)
    assert learned(Rule("delta", beta=0.3)) == pytest.approx(1 - 0.7**trials)
    assert learned(Rule("decay", eta=1.0, decay=0.9)) == pytest.approx((1 - 0.9**trials) / 0.1)
    assert learned(Rule("oja", eta=0.3)) == pytest.approx(1 - 0.7**trials)  # bounded, where Hebb is not
    # theta before trial t is 1 - 0.9^(t-1): the sum of 0.1 * 0.9^(t-1)
    assert learned(Rule("bcm", eta=0.1, sliding=0.9)) == pytest.approx(1 - 0.9**trials)


@oracle
def test_phenomena_tell_the_rules_apart() -> None:
    def evoked(text: str, name: Name) -> dict[str, float]:
        return run_protocol(text, Rule(name, beta=0.3))

    blocked, control = "A+ x30; AB+ x30; test B", "AB+ x30; test B"
    assert evoked(blocked, "delta")["B"] < 0.01 < 0.49 < evoked(control, "delta")["B"]
    assert evoked(blocked, "hebb") == evoked(control, "hebb")
    extinction = "A+ x30; A- x30; test A"
    assert evoked(extinction, "delta")["A"] < 0.01
    assert evoked(extinction, "hebb") == evoked("A+ x30; test A", "hebb")  # an outcome of 0 teaches Hebb nothing
    assert 0 < evoked(extinction, "decay")["A"] < 0.5 * evoked("A+ x30; test A", "decay")["A"]
    over = "A+, B+ x30; AB+ x30; test A, B"
    assert evoked(over, "delta") == pytest.approx({"A": 0.5, "B": 0.5}, abs=0.01)
    assert evoked(over, "hebb")["A"] > evoked("A+, B+ x30; test A, B", "hebb")["A"]
    inhibited = evoked("A+, AB- x60; test A, B, AB", "delta")
    assert inhibited == pytest.approx({"A": 1, "B": -1, "AB": 0}, abs=0.01)
    # latent inhibition: Rescorla-Wagner does not know it
    assert evoked("A- x20; A+ x3; test A", "delta") == evoked("A+ x3; test A", "delta")
    assert evoked("A+ x20; B>A x3; test B", "delta")["B"] > 0.5  # second order
    shadowed = run_protocol("AB+ x50; test A, B", Rule("delta", beta=0.2), {"A": 2.0})
    assert shadowed["A"] == pytest.approx(4 * shadowed["B"], rel=1e-3)  # as the squares of the saliences


@oracle
def test_a_trace_bridges_the_gap_between_stimulus_and_outcome() -> None:
    stimulus, nothing, outcome = torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0])
    for gap in (1, 3):
        memory = AssociativeMemory(1, 1, Rule("trace", trace=0.5))
        memory.present(stimulus, nothing)
        for _ in range(gap - 1):
            memory.present(nothing, nothing)
        memory.present(nothing, outcome)
        assert float(memory.test(stimulus)) == pytest.approx(0.5**gap)


@oracle
def test_average_recall_follows_the_closed_form_and_orthogonal_keys_have_no_error() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = (
        torch.nn.functional.normalize(torch.randn(50, 65, 64, generator=generator), dim=-1) for _ in range(2)
    )
    assert expected_fidelity(65, 64) == pytest.approx(0.5**0.5)
    assert float(recall_fidelity(keys, values, Rule()).mean()) == pytest.approx(0.5**0.5, abs=0.01)
    orthogonal = torch.eye(64)[None]
    assert float(recall_fidelity(orthogonal, values[:1, :64], Rule())) == pytest.approx(1.0)


@oracle
def test_the_worst_values_by_hand() -> None:
    keys = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    # |overlaps|: 0.6 between the first two, 0.8 between the last two, so the second one meets 0.6 + 0.8 of three
    assert [worst_case_capacity(keys, error) for error in (0.5, 0.7, 1.3, 1.5)] == [1, 2, 2, 3]
    i, j = 1, [0, 2]
    values = torch.zeros(3, 1)
    values[j, 0] = (keys[j] @ keys[i]).sign()
    assert float((keys @ keys[i]) @ values) == pytest.approx(1.4)


def test_chains_fail_as_independent_hops_and_heads_help_at_least_as_a_majority() -> None:
    one = chain_accuracy(5, 1, 24, 24, 200, torch.Generator().manual_seed(0))
    assert one[-1] == pytest.approx(float(one[0]) ** 5, abs=0.03)
    three = chain_accuracy(5, 3, 24, 24, 200, torch.Generator().manual_seed(0))
    p = float(one[0])
    assert float(three[0]) >= p**3 + 3 * p**2 * (1 - p) - 0.01
    assert bool((three[1:] <= three[:-1]).all())


def test_the_effective_dimension_counts_the_directions_that_keys_fill() -> None:
    assert effective_dimension(torch.eye(8)) == pytest.approx(8)
    assert effective_dimension(torch.ones(5, 8)) == pytest.approx(1)


@pytest.mark.parametrize("text", ["A+ x20", "A* x2; test A", "A+ xx; test A", "A+"])
def test_what_is_no_protocol_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        run_protocol(text, Rule())


def test_unknown_rules_and_odd_rates_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'hebb'"):
        Rule("hebbian")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="decay: found 2"):
        Rule("decay", decay=2.0)
    with pytest.raises(InputError, match="not of decay"):
        recall_fidelity(torch.ones(1, 1, 1), torch.ones(1, 1, 1), Rule("decay"))
