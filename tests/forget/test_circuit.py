"""CURE: groups by causal effect, weights cut into heads, a step for each group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import blocks
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.scopes.circuit import CODES, Circuit, Group, Settings, contrasts_of, grouped
from letheon.forget.updates.by_group import reconciled, routed
from letheon.probe.patching import Module, faithfulness
from letheon.testing.samples import exchanged_request, sample_request
from tests import naive

OPTIONS: dict[str, Any] = {"device": "cpu", "precision": "float32", "batch_size": 4, "learning_rate": 1e-3}


# Grouping


@pytest.mark.oracle("circuit")
def test_modules_are_sorted_by_the_ratio_of_their_scores() -> None:
    a, b, c, d = Module(0, 0), Module(0, 1), Module(0), Module(1)
    forget_scores = {a: 0.9, b: 0.1, c: 0.5, d: 0.01}
    retain_scores = {a: 0.2, b: 0.8, c: 0.4, d: 0.02}
    found = grouped(forget_scores, retain_scores, share=0.75, ratio=2.0)
    assert found == {a: "forget", b: "retain", c: "shared"}  # d is the weakest of four


@pytest.mark.oracle("circuit")
def test_a_harmful_module_counts_as_none() -> None:
    a, b = Module(0, 0), Module(0, 1)
    assert grouped({a: -2.0, b: 0.1}, {a: 0.0, b: 0.1}, share=0.5, ratio=2.0) == {b: "shared"}


@pytest.mark.oracle("circuit")
def test_weights_are_marked_by_heads(deletion: Request) -> None:
    model = load("tiny", device="cpu")
    scope = Circuit(Settings(share=0.5))
    chosen = scope.select(model, deletion)
    heads = model.base().config.num_attention_heads
    for module, group in scope.modules.items():
        block = blocks(model.base())[module.layer]
        if module.head is None:
            names = [n for n, p in model.model.named_parameters() if any(p is q for q in block.mlp.parameters())]
            assert all(int(scope.groups[name].flatten()[0]) == CODES[group] for name in names)
            continue
        size = block.self_attn.o_proj.in_features // heads
        inside = slice(module.head * size, (module.head + 1) * size)
        output = next(n for n, p in model.model.named_parameters() if p is block.self_attn.o_proj.weight)
        query = next(n for n, p in model.model.named_parameters() if p is block.self_attn.q_proj.weight)
        assert (scope.groups[output][0, inside] == CODES[group]).all()
        assert (scope.groups[query][inside, 0] == CODES[group]).all()
    assert set(chosen) == set(scope.groups)
    assert len(scope.table) == len(blocks(model.base())) * (heads + 1)


def known() -> Request:
    """Rows of both sets with values, so that a contrast is read where the answer depends on the subject."""
    return replace(sample_request(), retain=exchanged_request().forget)


@pytest.fixture(scope="module")
def taught() -> LanguageModel:
    """The tiny model, taught the forget rows in the MLP of layer 1 and the retain rows in that of layer 3."""
    model, request = load("tiny", device="cpu"), known()
    for rows, layer in ((request.forget, 1), (request.retain, 3)):
        moving = {name: p for name, p in model.model.named_parameters() if f"layers.{layer}.mlp" in name}
        finetune(model, rows, TrainSettings(1e-2, batch_size=8, precision="float32"), 60, parameters=moving)
    return model


# Every module, in the group of its larger score.
ALL = Settings(share=1.0, ratio=1.0, patching="exact")


def test_groups_are_those_of_the_modules_that_carry_the_rows(taught: LanguageModel) -> None:
    """Causality, not size; and exchanged rows exchange the groups."""
    found, exchanged = Circuit(ALL), Circuit(ALL)
    found.select(taught, known())
    exchanged.select(taught, replace(known(), forget=known().retain, retain=known().forget))
    assert found.modules[Module(1)] == "forget"
    assert found.modules[Module(3)] == "retain"
    swap = {"forget": "retain", "retain": "forget", "shared": "shared"}
    assert exchanged.modules == {module: swap[group] for module, group in found.modules.items()}


@pytest.mark.oracle("circuit")
def test_every_row_says_how_much_of_each_side_s_behaviour_the_circuit_alone_keeps(taught: LanguageModel) -> None:
    """Each column from its own side's contrasts; exchanged rows exchange the columns."""
    request, settings = known(), replace(ALL, share=0.5)
    found, exchanged = Circuit(settings), Circuit(settings)
    found.select(taught, request)
    exchanged.select(taught, replace(request, forget=request.retain, retain=request.forget))
    assert set(found.modules) == set(exchanged.modules)
    expected = [
        faithfulness(taught, contrasts_of(taught, rows, request, settings.rows, settings.seed), set(found.modules))
        for rows in (request.forget, request.retain)
    ]
    assert abs(expected[0] - expected[1]) > 0.02, "or an exchange would not show"
    for row, back in zip(found.table, exchanged.table, strict=True):
        assert [row["faithfulness_forget"], row["faithfulness_retain"]] == pytest.approx(expected)
        assert [back["faithfulness_retain"], back["faithfulness_forget"]] == pytest.approx(expected)


@pytest.mark.oracle("circuit")
def test_a_circuit_of_all_modules_keeps_everything(taught: LanguageModel) -> None:
    scope = Circuit(ALL)
    scope.select(taught, known())
    assert scope.table[0]["faithfulness_forget"] == pytest.approx(1, abs=1e-5)
    assert scope.table[0]["faithfulness_retain"] == pytest.approx(1, abs=1e-5)


def test_the_random_control_has_groups_of_the_same_sizes(deletion: Request) -> None:
    causal, control = Circuit(Settings(share=0.5)), Circuit(Settings(share=0.5, grouping="random"))
    causal.select(load("tiny", device="cpu"), deletion)
    control.select(load("tiny", device="cpu"), deletion)
    assert sorted(causal.modules.values()) == sorted(control.modules.values())
    assert set(causal.modules) != set(control.modules)


def test_the_random_control_draws_heads_for_heads_and_mlps_for_mlps() -> None:
    every = [Module(layer, head) for layer in range(6) for head in (None, 0, 1, 2, 3)]
    causal: dict[Module, Group] = {
        Module(0): "forget",
        Module(1): "retain",
        Module(2, 1): "forget",
        Module(3, 2): "shared",
    }

    def control(seed: int) -> dict[Module, Group]:
        scope = Circuit(Settings(grouping="random", seed=seed))
        scope.modules = causal
        return scope._shuffled(every)

    def kinds(modules: dict[Module, Group]) -> list[tuple[bool, str]]:
        return sorted((module.head is None, group) for module, group in modules.items())

    drawn = [control(seed) for seed in range(8)]
    assert all(kinds(one) == kinds(causal) for one in drawn), "every group has as many weights"
    assert len({frozenset(one.items()) for one in drawn}) > 1, "every seed has a draw of its own"


def test_the_control_without_groups_shares_every_module_of_the_same_circuit(deletion: Request) -> None:
    causal, control = Circuit(Settings(share=0.5)), Circuit(Settings(share=0.5, grouping="none"))
    causal.select(load("tiny", device="cpu"), deletion)
    control.select(load("tiny", device="cpu"), deletion)
    assert set(causal.modules) == set(control.modules)
    assert set(control.modules.values()) == {"shared"}


def test_a_twin_has_another_subject_and_the_target_is_the_values_first_token(deletion: Request) -> None:
    model = load("tiny", device="cpu")
    rows = deletion.forget
    contrast = contrasts_of(model, rows[:1], deletion, 1, 0)[0]
    clean = model.tokenizer.decode(contrast.clean)
    twin = model.tokenizer.decode(contrast.corrupted)
    assert clean.endswith("Ann Lee lives in ")
    assert "Ann Lee" not in twin
    assert twin.endswith(" lives in ")
    assert model.tokenizer.decode([contrast.target]) == "O"
    assert contrast.other is None or contrast.other != contrast.target


def test_rows_without_anything_to_replace_are_refused(deletion: Request) -> None:
    bare = replace(deletion, retain=tuple(replace(row, subject=None) for row in deletion.retain))
    with pytest.raises(InputError, match="circuit cannot be found"):
        Circuit().select(load("tiny", device="cpu"), bare)


# The update


@pytest.mark.oracle("by_group")
def test_a_conflict_is_projected_away_and_agreement_is_left() -> None:
    f, r = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
    # <f, r> = -1, ‖r‖² = 2: f + r/2
    assert torch.equal(reconciled(f, r)[0], torch.tensor([0.5, 0.5]))
    assert torch.equal(reconciled(f, [torch.tensor([1.0, 1.0])])[0], f[0])


@pytest.mark.oracle("by_group")
def test_every_entry_gets_its_groups_gradient() -> None:
    f, r = [torch.tensor([1.0, 2.0, 3.0, 4.0])], [torch.tensor([10.0, 20.0, -3.0, 40.0])]
    group = [torch.tensor([1, 2, 3, 0])]
    plain = routed(f, r, group, project=False)[0]
    assert torch.equal(plain, torch.tensor([1.0, 20.0, 0.0, 0.0]))
    # in the shared entry 3 and -3 conflict wholly: nothing of the forget gradient is left
    assert torch.equal(routed(f, r, group, project=True)[0], torch.tensor([1.0, 20.0, -3.0, 0.0]))


@pytest.mark.oracle("by_group")
def test_in_the_shared_group_the_forget_gradient_gives_way_to_the_retain_gradient() -> None:
    """(1, 0) against (-1, 1), as above: (.5, .5) is left, (-1, 1) is added; exchanged: (1, 0) + (0, 1)."""
    f, r = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
    assert torch.equal(routed(f, r, [torch.tensor([3, 3])], project=True)[0], torch.tensor([-0.5, 1.5]))


def first_gradients(model: LanguageModel | str, request: Request, recipe: str, **options: Any) -> list[torch.Tensor]:
    """What the optimizer is given at the only step, one tensor per weight of the circuit."""
    seen: list[list[torch.Tensor]] = []

    def take(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    handle = register_optimizer_step_pre_hook(take)
    try:
        forget(model, request, recipe, steps=1, **OPTIONS | options)
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.oracle("by_group")
def test_the_forget_group_descends_the_forget_loss_and_the_retain_group_the_retain_loss(tiny: LanguageModel) -> None:
    """Against gradients of each side alone, one row per pass; exchanged sides are far from them."""
    request, scope = known(), Circuit(Settings(share=1.0, ratio=1.0))
    request = replace(request, retain=request.retain[:1])  # a run draws retain rows, of one always the same
    chosen = scope.select(naive.frozen_copy(tiny), request)
    sides = {}
    for name, rows, sign in (("forget", request.forget, -1.0), ("retain", request.retain, 1.0)):
        apart = naive.frozen_copy(tiny)
        weights = dict(apart.model.named_parameters())
        loss = sign * naive.nll_of_tokens(apart, apart.encoder().encode_all(rows))
        sides[name] = dict(zip(chosen, torch.autograd.grad(loss, [weights[one] for one in chosen]), strict=True))
    recipe = "grad_diff+by_group@circuit:share=1,ratio=1"
    given = first_gradients(naive.frozen_copy(tiny), request, recipe, batch_size=8, clip=None)
    for side in ("forget", "retain"):
        pairs = [
            (gradient[here], sides[side][name][here])
            for name, gradient in zip(chosen, given, strict=True)
            for here in [(scope.groups[name] == CODES[side]).expand_as(gradient)]
        ]
        ours, expected = (torch.cat(column) for column in zip(*pairs, strict=True))
        assert len(ours), f"no weight is in the {side} group"
        assert torch.linalg.norm(ours - expected) < 1e-3 * torch.linalg.norm(expected)


@pytest.mark.oracle("by_group")
def test_the_optimizer_gets_nothing_outside_the_circuit(deletion: Request) -> None:
    scope = Circuit(Settings())
    chosen = scope.select(load("tiny", device="cpu"), deletion)
    for name, gradient in zip(chosen, first_gradients("tiny", deletion, "cure"), strict=True):
        outside = (scope.groups[name] == 0).expand_as(gradient)
        assert not bool(gradient[outside].any())
        assert bool(gradient[~outside].any())


def test_weight_decay_leaves_what_is_outside_alone(deletion: Request) -> None:
    before = load("tiny", device="cpu")
    scope = Circuit(Settings())
    scope.select(before, deletion)
    after = forget("tiny", deletion, "cure", steps=2, weight_decay=0.1, **OPTIONS).model
    old = dict(before.model.named_parameters())
    for name, parameter in after.model.named_parameters():
        group = scope.groups.get(name, torch.zeros([1] * parameter.ndim)).expand_as(parameter)
        assert torch.equal(parameter[group == 0], old[name][group == 0])


def test_by_group_needs_groups(deletion: Request) -> None:
    with pytest.raises(InputError, match="needs a scope that has groups"):
        forget("tiny", deletion, "grad_diff+by_group", steps=1, **OPTIONS)
