"""Sites found by structure in many architectures: recorded, edited, stopped after, started from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.hooks import edit, head_input, labelled_head, on_inputs, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import FrozenLayers, start_from, stop_after
from letheon.core.model.sites import Site, attention, blocks, down_projection, mlp, output_projection, sides
from letheon.core.rows.encoding import Encoded
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.likelihood import hidden_states, score
from letheon.core.scoring.reference import Reference
from tests import naive

LAYERS, WIDTH, HEADS = 3, 32, 4
COMMON = {
    "vocab_size": 259,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 8}),
    "gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 8, "sliding_window": 64}),
    "mistral": ("MistralConfig", {**GROUPED, "sliding_window": None}),
    "phi": ("PhiConfig", COMMON),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 259, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 128}
        | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    ),
    "gpt_neox": ("GPTNeoXConfig", COMMON),
    "mixtral": ("MixtralConfig", {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2}),
}
IDS = torch.arange(3, 17)[None]
SITES = [Site(1), Site(1, "attention"), Site(1, "mlp"), Site(1, "heads")]
# float32 products in another order; some families scale their logits by 10 and more
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """Random weights in one of the families."""
    import transformers

    name, options = FAMILIES[request.param]
    torch.manual_seed(0)
    built = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**options)).float().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # far enough from zero for attention to matter
    return LanguageModel(built, byte_tokenizer(), request.param)


def test_blocks_attention_and_mlp_are_found_by_structure(model: LanguageModel) -> None:
    stack = blocks(model.model)
    assert len(stack) == LAYERS
    assert "attention" in type(attention(stack[0])).__name__.lower()
    name = type(mlp(stack[0])).__name__.lower()
    assert "mlp" in name or "moe" in name
    weight = output_projection(stack[0]).weight
    assert sorted(weight.shape) == [WIDTH, WIDTH]


@torch.no_grad()
def test_recorded_activations_have_the_stream_s_shape_and_the_library_s_values(model: LanguageModel) -> None:
    output = model.model(IDS, output_hidden_states=True)
    theirs = hooks(model.model)  # the library records hidden states by hooks of its own, and leaves them
    with record(model.model, SITES) as found:
        model.model(IDS)
    assert {site: tuple(found[site].shape) for site in SITES} == dict.fromkeys(SITES, (1, IDS.shape[1], WIDTH))
    assert torch.equal(found[Site(1)], output.hidden_states[2])
    assert hooks(model.model) == theirs


@torch.no_grad()
def test_what_enters_a_block_is_what_left_the_one_below_and_can_be_edited(model: LanguageModel) -> None:
    with record(model.model, [Site(0), Site(0, "input"), Site(1, "input")]) as found:
        plain = model.model(IDS).logits
    assert torch.equal(found[Site(1, "input")], found[Site(0)])
    assert found[Site(0, "input")].shape == (1, IDS.shape[1], WIDTH)
    with edit(model.model, {Site(0, "input"): lambda x: x + 1e-2 * torch.arange(WIDTH)}) as calls:
        assert float((model.model(IDS).logits - plain).abs().max()) > 1e-3
    assert calls == {Site(0, "input"): 1}
    assert not hooks(model.model)


def test_the_last_matrix_of_an_mlp_is_found_by_structure(model: LanguageModel) -> None:
    block = blocks(model.model)[1]
    if model.name == "mixtral":  # many experts, none of which is the last
        with pytest.raises(InputError, match="no single matrix back to the residual stream"):
            down_projection(block)
        return
    outputs, inputs = sides(down_projection(block))
    assert outputs == WIDTH
    assert inputs == (4 * WIDTH if model.name == "gpt2" else 48)
    seen: list[Tensor] = []
    with (
        record(model.model, [Site(1, "mlp")]) as found,
        on_inputs({"down": down_projection(block)}, lambda _, x: seen.append(x)),
        torch.no_grad(),
    ):
        model.model(IDS)
    assert seen[0].shape == (1, IDS.shape[1], inputs)
    assert torch.allclose(down_projection(block)(seen[0]), found[Site(1, "mlp")], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("site", SITES, ids=lambda site: site.kind)
def test_an_edit_changes_the_output_and_the_identity_does_not(site: Site, model: LanguageModel) -> None:
    plain = model.model(IDS).logits
    with edit(model.model, {site: lambda x: x}) as calls:
        assert torch.equal(model.model(IDS).logits, plain)
    assert calls == {site: 1}
    with edit(model.model, {site: lambda x: torch.zeros_like(x)}):
        changed = model.model(IDS).logits
    assert float((changed - plain).abs().max()) > 1e-3
    assert torch.equal(model.model(IDS).logits, plain)
    assert not hooks(model.model)


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
def test_an_edit_fires_once_for_every_decoded_token(use_cache: bool, model: LanguageModel) -> None:
    with edit(model.model, {Site(0): lambda x: x, Site(2, "heads"): lambda x: x}) as calls:
        model.model.generate(
            IDS, max_new_tokens=5, min_new_tokens=5, do_sample=False, use_cache=use_cache, pad_token_id=0
        )
    assert set(calls.values()) == {5}


@torch.no_grad()
def test_logits_at_chosen_places_equal_those_of_all_places(model: LanguageModel) -> None:
    plain = model.model(IDS.repeat(2, 1)).logits
    row, column = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 9])
    with labelled_head(model.model, row, column), head_input(model.model) as seen:
        chosen = model.model(IDS.repeat(2, 1)).logits
    assert chosen.shape == (1, 3, 259)
    assert torch.allclose(chosen[0], plain[row, column], **CLOSE)
    assert seen[0].shape == (3, WIDTH)


@torch.no_grad()
def test_inputs_of_any_modules_are_seen_at_every_call(model: LanguageModel) -> None:
    stack = blocks(model.model)
    seen: list[tuple[str, Tensor]] = []
    with (
        record(model.model, [Site(1, "heads")]) as found,
        on_inputs({"out": output_projection(stack[1])}, lambda name, x: seen.append((name, x))),
    ):
        model.model(IDS)
        model.model(IDS)
    assert [name for name, _ in seen] == ["out", "out"]
    assert torch.equal(seen[1][1], found[Site(1, "heads")])
    assert not hooks(model.model)


@torch.no_grad()
def test_nothing_above_a_layer_is_run_after_stopping_there(model: LanguageModel) -> None:
    with record(model.model, [Site(i) for i in range(LAYERS)]) as plain:
        model.model(IDS)
    with record(model.model, [Site(i) for i in range(LAYERS)]) as found, stop_after(model.model, 1):
        model.model(IDS)
    assert set(found) == {Site(0), Site(1)}
    assert torch.equal(found[Site(1)], plain[Site(1)])
    assert not hooks(model.model)


@torch.no_grad()
@pytest.mark.parametrize("layer", [1, 2])
def test_starting_at_a_layer_equals_a_full_pass_and_runs_nothing_below(layer: int, model: LanguageModel) -> None:
    plain = model.model(IDS).logits
    with record(model.model, [Site(layer - 1)]) as found:
        model.model(IDS)
    with start_from(model.model, layer, found[Site(layer - 1)]), record(model.model, [Site(0, "mlp")]) as below:
        started = model.model(IDS, use_cache=False).logits
    assert torch.allclose(started, plain, **CLOSE)
    assert not below
    assert torch.equal(model.model(IDS).logits, plain)  # everything is put back


def test_scores_equal_a_full_pass_in_every_family(model: LanguageModel) -> None:
    rows = [Encoded(tuple(range(3, 20)), 12), Encoded((*range(3, 13), 40, 41), 10), Encoded((*range(3, 14), 7), 11)]
    batch = model.encoder().collate(rows)
    scores = score(model, batch)
    expected = torch.cat([naive.row_logits(model, row)[0] for row in rows])
    assert torch.allclose(scores.logits, expected, **CLOSE)
    assert torch.allclose(hidden_states(model, batch, 1)[1, :12], _layer(model, rows[1], 1), **CLOSE)


def _layer(model: LanguageModel, row: Encoded, layer: int) -> Tensor:
    return model.model(torch.tensor([row.ids]), output_hidden_states=True).hidden_states[layer + 1][0]


def test_answers_in_a_tree_score_as_alone_in_every_family(model: LanguageModel) -> None:
    questions = [("Where does Ann live?", ["In Oslo.", "In Rome."]), ("Where does Bob live?", ["In Bern."])]
    together = score_answers(model, questions)
    for (prompt, answers), scores in zip(questions, together, strict=True):
        for answer, found in zip(answers, scores, strict=True):
            alone = score_answers(model, [(prompt, [answer])])[0][0]
            assert torch.allclose(torch.tensor(found.logp), torch.tensor(alone.logp), **CLOSE)


@torch.no_grad()
def test_a_reference_keeps_its_logits_in_every_family(model: LanguageModel) -> None:
    """Also where logits are more than one product: Gemma caps them softly."""
    rows = [Encoded(tuple(range(3, 20)), 12), Encoded((3, 4, 5, 40, 41), 3)]
    batches = [model.encoder().collate([row], [number]) for number, row in enumerate(rows)]
    expected = torch.cat([score(model, batch).logits for batch in batches])
    reference = Reference()
    reference.keep(model, batches)
    naive.disturb(model, 0.1)
    assert torch.allclose(reference.logits(model.encoder().collate(rows)), expected, **CLOSE)


@torch.no_grad()
def test_frozen_layers_serve_every_family(model: LanguageModel) -> None:
    rows = [Encoded(tuple(range(3, 20)), 12), Encoded((3, 4, 5, 40, 41), 3)]
    batch = model.encoder().collate(rows)
    plain = score(model, batch).logits
    model.frozen = FrozenLayers(below=2)
    assert torch.allclose(score(model, batch).logits, plain, **CLOSE)
    assert torch.allclose(score(model, batch).logits, plain, **CLOSE)  # now from the cache


def test_what_has_no_blocks_and_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="no list of like blocks"):
        blocks(nn.Linear(2, 2))
    stack = nn.ModuleList([nn.Linear(2, 2)])
    holder = nn.Module()
    holder.layers = stack
    with pytest.raises(InputError, match="layer 4 asked for, the model has 1"), record(holder, [Site(4)]):
        pass
    with pytest.raises(InputError, match="has no attention"):
        attention(nn.Sequential(nn.Linear(2, 2)))


def hooks(model: nn.Module) -> list[str]:
    """Names of modules that still carry a hook."""
    return [name for name, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]
