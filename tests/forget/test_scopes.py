"""Which weights may move."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, FalconH1Config, MambaConfig, OPTConfig

from letheon.core.errors import InputError
from letheon.core.model.families import family_model
from letheon.core.model.models import LanguageModel
from letheon.forget.recipe import Recipe
from letheon.forget.recipe_job import lowest_layer
from letheon.forget.request import Request
from letheon.forget.scopes.mlp import weights


def chosen(text: str, model: LanguageModel, request: Request) -> dict[str, torch.nn.Parameter]:
    return Recipe.parse(f"npo@{text}").scope.make().select(model, request)


@pytest.mark.oracle("everything")
def test_everything_is_every_parameter(tiny: LanguageModel, deletion: Request) -> None:
    assert set(chosen("everything", tiny, deletion)) == {name for name, _ in tiny.model.named_parameters()}


@pytest.mark.oracle("layers")
@pytest.mark.parametrize(("layers", "numbers"), [("1-2", {1, 2}), ("3", {3}), ("2-", {2, 3}), ("0-", {0, 1, 2, 3})])
def test_layers_are_counted_from_zero_and_include_both_ends(
    layers: str, numbers: set[int], tiny: LanguageModel, deletion: Request
) -> None:
    names = chosen(f"layers={layers}", tiny, deletion)
    assert {int(name.split("layers.")[1].split(".")[0]) for name in names} == numbers
    assert lowest_layer(tiny, names) == min(numbers)
    per_block = sum(1 for _ in tiny.model.model.layers[0].parameters())
    assert len(names) == per_block * len(numbers)


@pytest.mark.oracle("layers")
def test_layers_can_be_narrowed_by_name(tiny: LanguageModel, deletion: Request) -> None:
    names = chosen("layers=1-2:parameters=down_proj", tiny, deletion)
    assert list(names) == [f"model.layers.{i}.mlp.down_proj.weight" for i in (1, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers=2-9", "the model has 0-3"),
        ("layers=4", "the model has 0-3"),
        ("layers=3-1", "the model has 0-3"),
        ("layers=1:parameters=nothing", "no weight of layers 1 has 'nothing'"),
    ],
)
def test_layers_that_are_not_there_are_refused(text: str, message: str, tiny: LanguageModel, deletion: Request) -> None:
    with pytest.raises(InputError, match=message):
        chosen(text, tiny, deletion)


@pytest.mark.oracle("mlp")
def test_mlp_is_the_three_matrices_of_every_block(tiny: LanguageModel, deletion: Request) -> None:
    names = chosen("mlp", tiny, deletion)
    assert set(names) == {
        f"model.layers.{i}.mlp.{part}_proj.weight" for i in range(4) for part in ("gate", "up", "down")
    }


@pytest.mark.parametrize(
    ("kind", "moving"),
    [
        ("gpt2", {"mlp.c_fc.weight", "mlp.c_proj.weight"}),  # not their biases
        ("gpt_neox", {"mlp.dense_h_to_4h.weight", "mlp.dense_4h_to_h.weight"}),
        ("phi3", {"mlp.gate_up_proj.weight", "mlp.down_proj.weight"}),
        ("mixtral", {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}),  # not the router
        # not the recurrence, which takes the mask
        ("jamba", {f"feed_forward.{part}_proj.weight" for part in ("gate", "up", "down")}),
    ],
)
def test_mlp_is_found_under_every_name(kind: str, moving: set[str], deletion: Request) -> None:
    names = chosen("mlp", family_model(kind), deletion)
    assert {re.sub(r"^.*?\d+\.", "", name) for name in names} == moving


SMALL = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2}
UNLIKE: dict[str, tuple[Any, set[str]]] = {
    "matrices in the block itself": (
        OPTConfig(**SMALL, ffn_dim=32, num_attention_heads=2, word_embed_proj_dim=16),
        {"fc1.weight", "fc2.weight"},
    ),
    "attention beside a recurrence": (
        FalconH1Config(**SMALL, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1, mamba_d_ssm=32,
                       mamba_n_heads=2, mamba_d_head=16, mamba_d_state=8),
        {f"feed_forward.{part}_proj.weight" for part in ("gate", "up", "down")},
    ),
    "nothing but a recurrence": (
        MambaConfig(**SMALL, state_size=4),
        {f"mixer.{part}_proj.weight" for part in ("in", "x", "dt", "out")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNLIKE)
def test_mlp_is_found_in_blocks_of_other_kinds(kind: str) -> None:
    config, moving = UNLIKE[kind]
    with torch.device("meta"):
        names = weights(AutoModelForCausalLM.from_config(config))
    assert {re.sub(r"^.*?\d+\.", "", name) for name in names} == moving


@pytest.mark.oracle("lora")
def test_a_new_adapter_changes_no_output_and_trains_only_its_two_matrices(
    tiny: LanguageModel, deletion: Request
) -> None:
    ids = torch.arange(20)[None] + 30
    with torch.no_grad():
        before = tiny.model(ids).logits
        parameters = chosen("lora:r=4", tiny, deletion)
        assert torch.equal(tiny.model(ids).logits, before)
    assert all("lora_" in name for name in parameters)
    pairs = {name for name in parameters if "lora_A" in name}
    assert len(parameters) == 2 * len(pairs) == 2 * 4 * 7  # four blocks of seven matrices
    assert all(min(parameter.shape) == 4 for parameter in parameters.values())
    assert all(not parameters[name.replace("lora_A", "lora_B")].any() for name in pairs)


@pytest.mark.oracle("lora")
def test_the_adapter_merged_is_the_adapter_on_top(tiny: LanguageModel, deletion: Request, tmp_path) -> None:
    from letheon.core.model.models import load

    parameters = chosen("lora:targets=q_proj v_proj", tiny, deletion)
    assert len(parameters) == 2 * 4 * 2
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.05)
        ids = torch.arange(20)[None] + 30
        on_top = tiny.model(ids).logits
        merged = load(tiny.save(tmp_path / "merged", what="full"), device="cpu").model(ids).logits
    # W + BA rounded once instead of Wx + BAx
    assert torch.allclose(on_top, merged, atol=1e-5)


def test_an_adapter_that_is_there_moves_with_its_own_rank(tiny: LanguageModel, deletion: Request) -> None:
    first = chosen("lora:r=4", tiny, deletion)
    again = chosen("lora:r=16", tiny, deletion)
    assert {name: id(parameter) for name, parameter in first.items()} == {n: id(p) for n, p in again.items()}


@pytest.mark.parametrize("text", ["everything", "layers=0-"])
def test_scopes_of_whole_weights_merge_an_adapter_first(text: str, tiny: LanguageModel, deletion: Request) -> None:
    with torch.no_grad():
        for parameter in chosen("lora", tiny, deletion).values():
            parameter.add_(0.05)
        ids = torch.arange(20)[None] + 30
        before = tiny.model(ids).logits
        names = chosen(text, tiny, deletion)
        after = tiny.model(ids).logits
    assert not tiny.has_adapter
    assert not any("lora" in name for name in names)
    assert torch.allclose(before, after, atol=1e-5)  # W + BA is rounded once


def test_a_name_outside_the_blocks_means_that_nothing_is_frozen(tiny: LanguageModel) -> None:
    parameters = dict(tiny.model.named_parameters())
    assert lowest_layer(tiny, parameters) == 0
    assert lowest_layer(tiny, {"n": parameters["model.norm.weight"]}) == 0
