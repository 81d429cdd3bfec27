"""Work that is shared between rows: the common beginning of hidden states, and batches of rows of like length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.hooks import record
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.passes import FrozenLayers
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Batch
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import hidden_states, score
from letheon.core.scoring.token_trees import of_like_length

# the prefix is run in another shape of product than before: a few units in the last place of float32
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def model_of(kind: str) -> LanguageModel:
    if kind == "tiny":
        return load("tiny", device="cpu")
    tokenizer = byte_tokenizer()
    shape = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    if kind == "gpt2":
        return LanguageModel(
            GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=3, n_head=4, **shape)).eval(), tokenizer, kind
        )
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = MistralConfig(**size, num_key_value_heads=2, sliding_window=6, **shape)
    return LanguageModel(MistralForCausalLM(config).eval(), tokenizer, kind)


def batch_of(model: LanguageModel) -> Batch:
    people = [("Ann", "Oslo"), ("Bobby", "Rome"), ("Cid", "Bern and then Basel")]
    rows = [Example(f"Where does {name} live?", f"{name} lives in {place}.") for name, place in people]
    encoder = model.encoder()
    return encoder.collate(encoder.encode_all(rows))


# a sliding window keeps no whole prefix: the model is then run as it is
@pytest.mark.parametrize("kind", ["tiny", "gpt2", "sliding window"])
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_hidden_states_and_gradients_are_those_of_a_plain_pass(kind: str, layer: int) -> None:
    model = model_of(kind)
    batch, base = batch_of(model), model.base()
    real = batch.attention_mask[..., None].bool()
    with record(base, [Site(layer)]) as found:
        base(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    direction = torch.randn(found[Site(layer)].shape, generator=torch.Generator().manual_seed(0)) * real
    results = []
    for states in (found[Site(layer)], hidden_states(model, batch, layer)):
        base.zero_grad()
        (states * direction).sum().backward()
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in base.parameters()]
        results.append((states.detach() * real, gradient))
    torch.testing.assert_close(results[1][0], results[0][0], **CLOSE)
    torch.testing.assert_close(results[1][1], results[0][1], atol=1e-4, rtol=1e-4)


def test_the_common_beginning_is_run_once(tiny: LanguageModel) -> None:
    seen: list[int] = []
    batch = batch_of(tiny)
    handle = tiny.base().get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(args[0].numel()))
    hidden_states(tiny, batch, 1)
    handle.remove()
    assert len(seen) == 2
    assert sum(seen) < batch.input_ids.numel()


@pytest.mark.parametrize("kind", ["tiny", "gpt2", "sliding window"])
def test_above_frozen_layers_scores_and_gradients_are_those_of_a_plain_pass(kind: str) -> None:
    model = model_of(kind)
    batch, base = batch_of(model), model.base()
    moving = [p for block in blocks(base)[1:] for p in block.parameters()]
    results = []
    for frozen in (None, FrozenLayers(1)):
        base.zero_grad()
        found = score(replace(model, frozen=frozen), batch)
        found.logp.sum().backward()
        results.append((found.logp.detach(), [p.grad.clone() for p in moving if p.grad is not None]))
    torch.testing.assert_close(results[1][0], results[0][0], **CLOSE)
    torch.testing.assert_close(results[1][1], results[0][1], atol=1e-4, rtol=1e-4)


def test_the_common_beginning_enters_the_moving_layers_once(tiny: LanguageModel) -> None:
    entered: list[int] = []
    batch, model = batch_of(tiny), replace(tiny, frozen=FrozenLayers(2))
    score(model, batch)  # what enters is computed once, row by row
    handle = blocks(tiny.base())[2].register_forward_hook(lambda _, args, __: entered.append(args[0].shape[:2].numel()))
    score(model, batch)
    handle.remove()
    assert len(entered) == 2
    assert sum(entered) < batch.input_ids.numel()


@given(st.lists(st.integers(1, 400), max_size=40), st.integers(1, 2000))
def test_batches_lose_no_row_and_hold_to_the_limit(lengths: list[int], most: int) -> None:
    batches = of_like_length(lengths, most)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= most


def test_a_busy_batch_takes_no_row_that_would_mostly_be_padding() -> None:
    assert of_like_length([600, 590, 100, 100], 4096) == [[0, 1], [2, 3]]
    assert of_like_length([60, 59, 10, 10], 4096) == [[0, 1, 2, 3]]
