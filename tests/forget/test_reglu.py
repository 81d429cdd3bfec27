"""ReGLU: its start changes nothing, its directions are the eigenvectors, its penalty keeps B off the retain outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.sampling import spread
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import check, forget
from letheon.forget.scopes import reglu
from letheon.forget.scopes.reglu import (
    RIDGE,
    ReGLU,
    Settings,
    leading_directions,
    leakage,
    orthogonality,
    outputs,
    pooled_inputs,
    protected_directions,
    rila,
)

pytestmark = pytest.mark.oracle("reglu")
IDS = torch.arange(24)[None] + 40
SMALL = Settings(r=4, alpha=12, rank=6)  # s = 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moment(rows: Tensor) -> Tensor:
    """The second moment at full size, as the paper writes it."""
    return rows.T @ rows / len(rows) + RIDGE * torch.eye(rows.shape[1], dtype=torch.float64)


def gpt2() -> LanguageModel:
    """A model whose matrices are stored as [in, out]."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=256)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LanguageModel(GPT2LMHeadModel(config).eval(), tokenizer, "gpt2-like")


# The directions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 40])  # decomposed at full size, and inside the rows' span
@pytest.mark.parametrize("beta", [0.2, 0.7, 1.0])
def test_the_start_s_directions_are_those_of_the_dense_matrix(size: int, beta: float) -> None:
    h_forget, h_retain = drawn(7, size), drawn(9, size, seed=1)
    values, q = rila(h_forget, h_retain, 3, beta)
    dense = (1 - beta) * moment(h_forget) - beta * moment(h_retain)
    expected = torch.linalg.eigvalsh(dense).flip(0)[:3]
    # double precision; the eigenvalues are of order 10
    torch.testing.assert_close(values, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(q.T @ q, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(dense @ q, q * values, atol=1e-10, rtol=0)


def test_the_largest_eigenvalues_are_taken_not_the_largest_in_size() -> None:
    """Forget outputs along the first axis, ten times stronger retain outputs along the second."""
    h_forget, h_retain = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0, 10.0, 0]])
    values, q = rila(h_forget, h_retain, 2, 0.5)
    assert q[:, 0].abs().tolist() == pytest.approx([1, 0, 0])
    assert q[:, 1].abs().tolist() == pytest.approx([0, 0, 1])  # nothing there is better than the retain direction
    assert values.tolist() == pytest.approx([0.5, 0.0])


def test_no_orthonormal_factor_has_a_larger_trace() -> None:
    h_forget, h_retain = drawn(30, 12), drawn(30, 12, seed=1)
    contrast = 0.3 * moment(h_forget) - 0.7 * moment(h_retain)
    values, q = rila(h_forget, h_retain, 4, 0.7)
    best = float((q.T @ contrast @ q).trace())
    assert best == pytest.approx(float(values.sum()))
    for seed in range(50):
        other = torch.linalg.qr(drawn(12, 4, seed=seed + 2))[0]
        assert float((other.T @ contrast @ other).trace()) <= best + 1e-12


def test_more_directions_than_outputs_cannot_be_asked_for() -> None:
    values, q = leading_directions([(1.0, drawn(3, 5))], 9)
    assert (len(values), q.shape) == (5, (5, 5))


# Penalty and diagnostics --------------------------------------------------------------------------------------------


def test_the_penalty_is_hand_worked_and_its_gradient_is_twice_the_projection() -> None:
    basis = torch.tensor([[1.0, 0], [0, 1.0], [0, 0]])
    factor = torch.tensor([[1.0, 2.0], [0.0, 3.0], [5.0, 7.0]], requires_grad=True)
    value = orthogonality(factor, basis)
    assert value.item() == 1 + 4 + 0 + 9
    value.backward()
    assert factor.grad is not None
    torch.testing.assert_close(factor.grad, 2 * basis @ basis.T @ factor.detach())
    double, axes = drawn(5, 2).requires_grad_(), torch.linalg.qr(drawn(5, 3, seed=1))[0]
    # the penalty is float32: differences of 1e-2 keep its rounding out of the slope
    assert torch.autograd.gradcheck(lambda b: orthogonality(b, axes), double, eps=1e-2, atol=1e-3)


def test_the_penalty_is_float32_where_products_are_not() -> None:
    basis, factor = drawn(64, 8).float(), drawn(64, 4, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = orthogonality(factor, basis)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, orthogonality(factor, basis))


def test_leakage_is_hand_worked() -> None:
    first_axis = torch.tensor([[1.0], [0], [0]])
    assert leakage(first_axis, torch.tensor([[3.0, 4, 0]])) == pytest.approx(0.6)
    assert leakage(first_axis, torch.tensor([[0.0, 1, 0], [0, 0, 2]])) == 0
    assert leakage(first_axis, torch.zeros(2, 3)) == 0


# What the layers see ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_pooled_outputs_are_those_of_each_row_alone_without_padding(
    pooling: Any, tiny: LanguageModel, deletion: Request
) -> None:
    layer = nn.Linear(64, 128)
    layer.weight = tiny.model.model.layers[1].mlp.up_proj.weight
    tiny.model.model.layers[1].mlp.up_proj = layer  # the same matrix, and a bias
    found, counts = pooled_inputs(tiny, {"up": layer}, deletion.forget, pooling)
    ours = outputs(layer.weight, layer.bias, found["up"], counts)
    for number, row in enumerate(tiny.encoder().encode_all(deletion.forget)):
        seen: list[Tensor] = []
        with torch.no_grad(), reglu.on_inputs({"up": layer}, lambda _, x, seen=seen: seen.append(layer.forward(x))):
            tiny.model(torch.tensor([row.ids]))
        expected = seen[0][0].sum(0) if pooling == "sum" else seen[0][0].mean(0)
        # float32 sums over some fifty tokens
        torch.testing.assert_close(ours[number].float(), expected, atol=2e-4, rtol=1e-4)


def test_a_layer_that_does_not_see_whole_rows_is_refused(tiny: LanguageModel, deletion: Request) -> None:
    class Flat(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.inner(x[:1]), x[1:]])

    mlp = tiny.model.model.layers[0].mlp
    expert = nn.Linear(64, 64)
    mlp.up_proj = nn.Sequential(Flat(expert), mlp.up_proj)
    with pytest.raises(InputError, match="up_proj does not see whole rows"):
        pooled_inputs(tiny, {"up_proj": expert}, deletion.forget, "sum")


def test_rows_are_taken_evenly() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]


# The start ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: load("tiny", device="cpu"), gpt2], ids=["llama", "gpt2"])
@torch.no_grad()
def test_nothing_has_changed_before_the_first_step_and_the_scale_counts(make: Any, deletion: Request) -> None:
    model = make()
    before = model.model(IDS).logits
    matrices = {
        name: module.weight.clone() for name, module in model.model.named_modules() if hasattr(module, "weight")
    }
    scope = ReGLU(SMALL)
    chosen = scope.select(model, deletion)
    # float32 weights: W0 - sBA and BA are each rounded once
    torch.testing.assert_close(model.model(IDS).logits, before, atol=1e-4, rtol=0)
    assert len(chosen) == 2 * len(scope.layers)
    for name, layer in scope.layers.items():
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        whole, left = matrices[name.removeprefix("base_model.model.")], layer.base_layer.weight
        whole, left = (whole.T, left.T) if make is gpt2 else (whole, left)
        torch.testing.assert_close(b.T @ b, torch.eye(4), atol=1e-5, rtol=0)
        torch.testing.assert_close(a, b.T @ whole, atol=1e-5, rtol=0)
        torch.testing.assert_close(left, whole - 3 * b @ a, atol=1e-5, rtol=0)
        assert not torch.allclose(left, whole - b @ a, atol=1e-3)


def test_the_start_is_the_same_in_a_resumed_run(deletion: Request) -> None:
    hashes = []
    for _ in range(2):
        model = load("tiny", device="cpu")
        ReGLU(SMALL).select(model, deletion)
        hashes.append(model.parameters_hash())
    assert hashes[0] == hashes[1]


def test_protected_directions_are_as_many_as_there_are_rows_at_most(tiny: LanguageModel, deletion: Request) -> None:
    scope = ReGLU(Settings(r=4, alpha=8))
    scope.select(tiny, deletion)
    assert {start.basis.shape[1] for start in scope.starts.values()} == {len(deletion.retain)}
    assert all(0 <= start.positive <= 4 for start in scope.starts.values())
    told = {row["matrix"]: row for row in scope.table}
    assert set(told) == set(scope.starts)
    assert all(told[name]["positive"] == start.positive for name, start in scope.starts.items())
    assert all(row["smallest"] <= row["largest"] for row in scope.table)


def test_a_matrix_with_fewer_outputs_than_the_rank_still_starts_unchanged(
    tiny: LanguageModel, deletion: Request
) -> None:
    with torch.no_grad():
        before = tiny.model(IDS).logits
        ReGLU(Settings(r=48, alpha=48, targets="k_proj")).select(tiny, deletion)  # k_proj has 32 outputs
        torch.testing.assert_close(tiny.model(IDS).logits, before, atol=1e-4, rtol=0)


def test_the_penalty_is_the_weighted_sum_over_layers_and_moves_only_b(tiny: LanguageModel, deletion: Request) -> None:
    scope = ReGLU(SMALL)
    chosen = scope.select(tiny, deletion)
    penalty = scope.penalty()
    assert penalty is not None
    parts = [
        (layer.lora_B["default"].weight.T @ scope.starts[name].basis).norm() ** 2
        for name, layer in scope.layers.items()
    ]
    assert penalty.item() == pytest.approx(0.5 * sum(part.item() for part in parts), rel=1e-5)
    penalty.backward()
    assert all((parameter.grad is not None) == ("lora_B" in name) for name, parameter in chosen.items())
    assert ReGLU(Settings(penalty=0)).penalty() is None


def test_retain_rows_are_needed(deletion: Request) -> None:
    with pytest.raises(InputError, match="needs retain rows"):
        check(Recipe.parse("reglu"), Request(forget=deletion.forget))


@pytest.mark.parametrize("options", ["beta=1.5", "penalty=-1", "rank=0", "init=fila", "pooling=last"])
def test_options_that_cannot_be_are_refused(options: str) -> None:
    with pytest.raises(InputError):
        Recipe.parse(f"npo@reglu:{options}")


# Training and the end -----------------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {"steps": 8, "learning_rate": 5e-3, "batch_size": 4, "precision": "float32"}


def own_leakage(scope: ReGLU, request: Request) -> float:
    """Mean over layers: share of s·BA's output on the retain rows that lies in the true directions."""
    fresh, found = load("tiny", device="cpu"), []
    matrices = dict(fresh.model.named_modules())
    names = [name.removeprefix("base_model.model.") for name in scope.layers]
    entering, _ = pooled_inputs(fresh, {name: matrices[name] for name in names}, request.retain, "sum")
    for name in names:
        x = entering[name].double()
        h = x @ matrices[name].weight.detach().double().T
        basis = protected_directions(h, 6)
        layer = scope.layers[f"base_model.model.{name}"]
        a, b = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
        rank = len(a) // 2  # the first half is what was trained
        found.append(leakage(basis, x @ (b[:, :rank] @ a[:rank]).T))
    return sum(found) / len(found)


def test_the_true_directions_leak_less_than_random_ones(deletion: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """A penalty with a random P does nothing useful: only the retain outputs' own directions keep B off them."""
    scopes: list[ReGLU] = []
    select = ReGLU.select

    def kept(scope: ReGLU, model: LanguageModel, request: Request, random: bool = False) -> dict[str, nn.Parameter]:
        scopes[:] = [scope]
        chosen = select(scope, model, request)
        for number, start in enumerate(scope.starts.values()):
            if random:
                start.basis = torch.linalg.qr(drawn(*start.basis.shape, seed=number))[0].float()
        return chosen

    found = {}
    for random in (False, True):
        monkeypatch.setattr(ReGLU, "select", lambda *arguments, random=random: kept(*arguments, random=random))
        text = "inverted_hinge@reglu:r=4,alpha=12,rank=6,penalty=20"
        forget("tiny", deletion, text, **{**OPTIONS, "steps": 30, "clip": None})
        found[random] = own_leakage(scopes[0], deletion)
    assert found[False] < 0.6 * found[True]


def test_the_protected_directions_stay_as_they_were(tiny: LanguageModel, deletion: Request) -> None:
    bases: list[list[Tensor]] = []
    original = reglu.orthogonality

    def looked(factor: Tensor, basis: Tensor) -> Tensor:
        bases.append([basis, basis.clone()])
        return original(factor, basis)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reglu, "orthogonality", looked)
        forget(tiny, deletion, "inverted_hinge@reglu:r=4,alpha=8", **OPTIONS)
    assert len({id(basis) for basis, _ in bases}) == 4 * 7
    assert all(torch.equal(now, then) for now, then in bases)


@pytest.mark.parametrize("make", [lambda: load("tiny", device="cpu"), gpt2], ids=["llama", "gpt2"])
def test_the_end_is_an_adapter_of_twice_the_rank_on_the_weights_as_they_were(
    make: Any, deletion: Request, tmp_path: Path
) -> None:
    model, fresh, last = make(), make(), []
    weights = {name: p.detach().clone() for name, p in model.model.named_parameters()}

    @torch.no_grad()
    def watch(now: LanguageModel, step: int) -> None:
        last[:] = [now.model(IDS).logits]

    forget(model, deletion, "inverted_hinge@reglu:r=4,alpha=12,rank=6", on_step=watch, **OPTIONS)
    for name, weight in model.model.named_parameters():
        if "lora_" not in name:
            assert torch.equal(weight, weights[name.removeprefix("base_model.model.").replace("base_layer.", "")]), name
    saved = model.save(tmp_path / "adapter")
    read = PeftModel.from_pretrained(fresh.model, str(saved)).eval()
    with torch.no_grad():
        start, end, again = make().model(IDS).logits, model.model(IDS).logits, read(IDS).logits
        whole = load(model.save(tmp_path / "whole", what="full"), device="cpu").model(IDS).logits
    # W0 x + s(BA - B0A0)x against (W0 - sB0A0)x + sBAx: other rounding
    torch.testing.assert_close(end, last[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(whole, end, atol=1e-4, rtol=0)
    assert torch.equal(end, again)
    assert not torch.allclose(end, start, atol=1e-2)
    assert (read.peft_config["default"].r, read.peft_config["default"].lora_alpha) == (8, 24)


def test_with_peft_s_own_start_the_adapter_is_kept_as_it_is(tiny: LanguageModel, deletion: Request) -> None:
    result = forget(tiny, deletion, "inverted_hinge@reglu:r=4,alpha=8,init=lora", **OPTIONS)
    assert result.model.model.peft_config["default"].r == 4
    assert "penalty" in result.outcome.history[0]
