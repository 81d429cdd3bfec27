"""Targeted layers: bypassing keeps the residual stream, the most effective layers move, nothing else does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.hooks import bypass, leaf_embeddings
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import attention, blocks, mlp
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.scopes.targeted import answer_losses, layer_effects, top_layers
from tests.core.test_activations import FAMILIES

oracle = pytest.mark.oracle("targeted")
IDS = torch.arange(3, 17)[None]


def family(name: str) -> LanguageModel:
    """Random weights in one of the families."""
    import transformers

    config, options = FAMILIES[name]
    torch.manual_seed(0)
    built = transformers.AutoModelForCausalLM.from_config(getattr(transformers, config)(**options)).float().eval()
    return LanguageModel(built, byte_tokenizer(), name)


# Bypassing ----------------------------------------------------------------------------------------------------------


@oracle
@torch.no_grad()
@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("layer", [0, 2])
def test_a_bypassed_layer_is_a_layer_that_is_not_there(name: str, layer: int) -> None:
    """The second formulation: the same model built without it; the residual stream goes on."""
    model = family(name).model
    plain = model(IDS, use_cache=False).logits
    with bypass(model, layer):
        bypassed = model(IDS, use_cache=False).logits
    assert torch.equal(model(IDS, use_cache=False).logits, plain), "hooks are gone"
    shorter = copy.deepcopy(model)
    stack = blocks(shorter)
    parent = next(m for m in shorter.modules() if any(child is stack for child in m.children()))
    left = nn.ModuleList([block for i, block in enumerate(stack) if i != layer])
    for key, child in list(parent.named_children()):
        if child is stack:
            setattr(parent, key, left)
    shorter.config.num_hidden_layers = len(left)
    if getattr(shorter.config, "layer_types", None):
        shorter.config.layer_types = [kind for i, kind in enumerate(shorter.config.layer_types) if i != layer]
    assert torch.allclose(bypassed, shorter(IDS, use_cache=False).logits, atol=1e-6)
    assert float((bypassed - plain).abs().max()) > 1e-4


def test_a_layer_that_is_not_there_cannot_be_bypassed(tiny: LanguageModel) -> None:
    with pytest.raises(InputError, match="layer 7 asked for, the model has 4"), bypass(tiny.model, 7):
        pass


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_embeddings_as_leaves_get_the_gradient_of_inputs_embeds(name: str) -> None:
    model = family(name).model
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with leaf_embeddings(model) as seen:
        loss = model(IDS, labels=IDS, use_cache=False).loss
    (found,) = torch.autograd.grad(loss, seen)
    given = model.get_input_embeddings()(IDS).detach().requires_grad_()
    (expected,) = torch.autograd.grad(model(inputs_embeds=given, labels=IDS, use_cache=False).loss, given)
    assert torch.allclose(found, expected, atol=1e-7)


# Choosing -----------------------------------------------------------------------------------------------------------


@oracle
@pytest.mark.parametrize(
    ("effects", "k", "expected"),
    [([0.1, 3.0, 0.2, 2.0], 2, [1, 3]), ([1.0, 1.0, 1.0], 2, [0, 1]), ([0.5, 0.4], 2, [0, 1]), ([0.0, 2.0], 1, [1])],
)
def test_the_largest_effects_win_and_of_equals_the_lower_layers(
    effects: list[float], k: int, expected: list[int]
) -> None:
    assert top_layers(effects, k) == expected


@oracle
def test_a_layer_that_adds_nothing_has_no_effect_and_is_not_chosen(tiny: LanguageModel, deletion: Request) -> None:
    with torch.no_grad():
        for part in (attention(blocks(tiny.model)[1]).o_proj, mlp(blocks(tiny.model)[1]).down_proj):
            part.weight.zero_()
    effects = layer_effects(tiny, tiny.encoder().encode_all(deletion.forget))
    assert effects[1] == pytest.approx(0, abs=1e-6)
    assert min(effect for i, effect in enumerate(effects) if i != 1) > 1e-5
    scope = Recipe.parse("npo@targeted:k=3").scope.make()
    scope.select(tiny, deletion)
    assert scope.layers == [0, 2, 3]


@oracle
def test_the_loss_is_the_mean_over_answer_tokens(tiny: LanguageModel, deletion: Request) -> None:
    """Against the library's own loss, row by row."""
    encoded = tiny.encoder().encode_all(deletion.forget)
    losses, tokens = answer_losses(tiny, encoded)
    for row, loss, count in zip(encoded, losses.tolist(), tokens.tolist(), strict=True):
        labels = torch.tensor([[-100] * row.start + list(row.ids[row.start :])])
        with torch.no_grad():
            mean = tiny.model(torch.tensor([row.ids]), labels=labels).loss
        assert loss == pytest.approx(float(mean) * count, rel=1e-5)
        assert count == len(row.ids) - row.start


# The scope ----------------------------------------------------------------------------------------------------------


@oracle
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_only_attention_and_mlp_of_the_chosen_layers_may_move(name: str, deletion: Request) -> None:
    model = family(name)
    rows = Request(forget=tuple(deletion.forget[:2]), id="short")
    scope = Recipe.parse("npo@targeted:k=1").scope.make()
    chosen = scope.select(model, rows)
    block = blocks(model.model)[scope.layers[0]]
    expected = {id(p) for module in (attention(block), mlp(block)) for p in module.parameters()}
    assert {id(p) for p in chosen.values()} == expected
    norms = {id(p) for p in block.parameters()} - expected
    assert norms, "a block has weights that are neither"


def test_layers_depend_on_the_request_and_repeat(tiny: LanguageModel, deletion: Request) -> None:
    def effects(request: Request) -> Any:
        scope = Recipe.parse("npo@targeted:k=2").scope.make()
        scope.select(tiny, request)
        return scope.effects

    one, other = Request(forget=deletion.forget[:1], id="a"), Request(forget=deletion.forget[5:], id="b")
    assert effects(one) == effects(one)
    assert effects(one) != effects(other)


def test_what_is_frozen_keeps_every_bit(tiny: LanguageModel, deletion: Request) -> None:
    before = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    options = {"steps": 3, "learning_rate": 1e-3, "weight_decay": 0.1, "precision": "float32"}
    forget(tiny, deletion, "npo@targeted:k=1", **options)
    moved = {name for name, p in tiny.model.named_parameters() if not torch.equal(p, before[name])}
    assert len({name.split("layers.")[1].split(".")[0] for name in moved}) == 1
    assert all("self_attn" in name or "mlp" in name for name in moved)


@pytest.mark.parametrize(
    ("text", "message"), [("npo@targeted", "8 layers asked for, the model has 4"), ("npo@targeted:k=0", "k: found 0")]
)
def test_more_layers_than_there_are_or_none_are_refused(
    text: str, message: str, tiny: LanguageModel, deletion: Request
) -> None:
    with pytest.raises(InputError, match=message):
        forget(tiny, deletion, text, steps=1)
