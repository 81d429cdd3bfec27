"""Attention "far" in transformers models: exact when it should be, chosen keys when it may be, decoding exact."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import letheon
from letheon.attend.far import FAR, Settings, binding, far_attention
from letheon.attend.hyper import binding as hyper_binding
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import attention, blocks
from tests.attend.reading import logits, text

SMALL = Settings(window=16, block=8, chunk=4, chosen=4, pin_first=4)  # exact up to 48 tokens


def test_the_public_names_are_there() -> None:
    assert letheon.attend.far_attention is far_attention
    assert letheon.attend.use_far is binding.use_far


def test_short_texts_are_exact_and_long_ones_begin_exactly(tiny: LanguageModel) -> None:
    far = load("tiny", device="cpu", attention="far")
    assert far.model.config._attn_implementation == "far"
    wanted = logits(tiny, text(300))
    assert torch.equal(logits(far, text(300)), wanted)  # FAR is exact up to more than 300 tokens
    binding.use_far(far, settings=SMALL)
    found = logits(far, text(300))
    assert torch.equal(logits(far, text(48)), logits(tiny, text(48)))
    assert torch.allclose(found[:, :48], wanted[:, :48], atol=1e-5)
    assert not torch.allclose(found[:, 48:], wanted[:, 48:], atol=1e-3)


def test_enough_chunks_leave_the_model_as_it_is(tiny: LanguageModel) -> None:
    wanted = logits(tiny, text(104))
    settings = Settings(window=8, block=8, chunk=4, chosen=21, pin_first=4)  # before 104: 96 tokens, 22 chunks
    binding.use_far(tiny, settings=settings)
    assert settings.exact_up_to == 96
    assert torch.allclose(logits(tiny, text(104)), wanted, atol=1e-5)


def test_a_text_has_the_same_logits_alone_and_in_a_batch_and_as_a_prefix(tiny: LanguageModel) -> None:
    binding.use_far(tiny, settings=SMALL)
    row, other = text(120), text(120).flip(1)
    alone = logits(tiny, row)
    # float32 sums of another size round differently: 1e-5 of logits of about 1
    assert torch.allclose(logits(tiny, torch.cat([other, row]))[1:], alone, atol=1e-5)
    assert torch.allclose(logits(tiny, row[:, :80]), alone[:, :80], atol=1e-5)


def test_gradients_of_training_reach_every_weight(tiny: LanguageModel) -> None:
    binding.use_far(tiny, settings=SMALL)
    ids = text(100)
    tiny.model.train()
    tiny.model(ids, labels=ids).loss.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in tiny.model.parameters())


def test_decoding_and_padded_rows_are_exact(tiny: LanguageModel) -> None:
    binding.use_far(tiny, settings=SMALL)
    ids = text(100)
    with torch.inference_mode():
        cache = tiny.model(ids[:, :99], use_cache=True).past_key_values
        copied = copy.deepcopy(cache)
        step = tiny.model(ids[:, 99:], past_key_values=cache).logits
        tiny.model.set_attn_implementation("sdpa")
        assert torch.equal(step, tiny.model(ids[:, 99:], past_key_values=copied).logits)
    mask = torch.ones(2, 100, dtype=torch.long)
    mask[1, 90:] = 0
    wanted = logits(tiny, text(100, 2), attention_mask=mask)
    binding.use_far(tiny, settings=SMALL)
    assert torch.allclose(logits(tiny, text(100, 2), attention_mask=mask), wanted, atol=1e-6)


def test_attention_without_a_causal_mask_is_exact() -> None:
    q = torch.randn(1, 1, 100, 8, generator=torch.Generator().manual_seed(0))
    module = torch.nn.Module()
    module.far_settings, module.is_causal = SMALL, False
    out, _ = binding.far_attention_forward(module, q, q, q, None)
    assert torch.allclose(out.transpose(1, 2), torch.nn.functional.scaled_dot_product_attention(q, q, q), atol=1e-6)


def test_only_the_chosen_layers_are_patched(tiny: LanguageModel) -> None:
    binding.use_far(tiny, patch="last:2")
    assert [attention(block).far_settings for block in blocks(tiny.model)] == [None, None, FAR, FAR]


def far_module(**attributes: Any) -> torch.nn.Module:
    """An attention module of one layer with the settings `SMALL`."""
    module = torch.nn.Module()
    for name, value in {"far_settings": SMALL, "is_causal": True, **attributes}.items():
        setattr(module, name, value)
    return module


def random_tensors(n: int, width: int = 8) -> list[torch.Tensor]:
    """q, k and v of two heads; q is large, so that what is left out tells."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 2, n, d, generator=generator) * by for d, by in ((8, 3.0), (8, 1.0), (width, 1.0))]


@pytest.mark.parametrize(
    ("n", "options", "attributes"),
    [
        (48, {}, {}),
        (1600, {}, {"far_settings": None}),  # `FAR` would be exact up to 1,536
        (100, {"attention_mask": torch.ones(100, 100, dtype=torch.bool).tril().triu(-30)[None, None]}, {}),
        (100, {"dropout": 0.3}, {}),
        (100, {"position_bias": torch.arange(100.0).expand(1, 2, 100, 100) / 10}, {}),
        (100, {"is_causal": False}, {}),
        (100, {}, {"is_causal": False}),
        (100, {"width": 4}, {}),
    ],
    ids=["short", "no layer of it", "mask", "dropout", "bias", "not causal now", "never causal", "narrow values"],
)
def test_what_it_does_not_do_is_left_to_exact_attention(
    n: int, options: dict[str, Any], attributes: dict[str, Any]
) -> None:
    options = {"attention_mask": None, "scaling": 0.4, **options}
    qkv = random_tensors(n, options.pop("width", 8))
    results = []
    for attend in (binding.far_attention_forward, sdpa_attention_forward):
        torch.manual_seed(0)
        results.append(attend(far_module(**attributes), *qkv, **options)[0])
    assert torch.equal(*results)


def test_it_attends_with_the_scale_and_settings_of_the_layer_from_the_next_token_on() -> None:
    for n in (49, 100):
        qkv = random_tensors(n)
        found = binding.far_attention_forward(far_module(), *qkv, None, scaling=0.4)[0].transpose(1, 2)
        assert torch.equal(found, far_attention(*qkv, scale=0.4, **vars(SMALL)))
        exact = sdpa_attention_forward(far_module(), *qkv, None, scaling=0.4)[0].transpose(1, 2)
        assert torch.allclose(found[:, :, :48], exact[:, :, :48], atol=1e-5)
        assert n < 100 or not torch.allclose(found, exact, atol=1e-3)


@pytest.mark.parametrize("option", ["softcap", "s_aux", "sinks", "indices", "block_indices"])
def test_what_exact_attention_would_leave_out_is_refused(option: str) -> None:
    qkv = random_tensors(4)
    for forward in (binding.far_attention_forward, hyper_binding.hyper_attention_forward):
        with pytest.raises(InputError, match="would leave out"):
            forward(far_module(), *qkv, None, **{option: torch.ones(1)})


def test_training_under_autocast_reaches_every_weight(tiny: LanguageModel) -> None:
    ids = text(100, 2)
    short = replace(hyper_binding.MODEL, block_size=8, sample_size=8, min_seq_len=32, pin_first=4, pin_recent=4)
    for use, settings in ((binding.use_far, SMALL), (hyper_binding.use_hyper, short)):
        use(tiny, settings=settings)
        tiny.model.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = tiny.model(ids, labels=ids).loss
        loss.backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in tiny.model.parameters())
