"""Attention "hyper" in transformers models: exact when it should be, approximate when it may be, decoding exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import letheon
from letheon.attend.errors import (
    attention_errors,
    equal_width,
    local_window,
    mean_of_values,
    perplexity,
    relative_errors,
    window_pairs,
)
from letheon.attend.hyper import MODEL, Settings, binding, hyper_attention
from letheon.attend.hyper.binding import use_hyper
from letheon.attend.patching import patched_layers
from letheon.core.errors import InputError
from letheon.core.model.attention import on_attention
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.sites import attention, blocks
from tests.attend.reading import logits, text

SMALL = Settings(block_size=8, sample_size=8, min_seq_len=32, pin_first=4)


def test_the_public_names_are_there() -> None:
    assert letheon.attend.hyper_attention is hyper_attention
    assert letheon.attend.use_hyper is use_hyper


def test_up_to_min_seq_len_nothing_changes(tiny: LanguageModel) -> None:
    hyper = load("tiny", device="cpu", attention="hyper")
    assert hyper.model.config._attn_implementation == "hyper"
    assert torch.equal(logits(hyper, text(300)), logits(tiny, text(300)))  # MODEL.min_seq_len is 2048
    use_hyper(hyper, settings=SMALL)
    assert torch.equal(logits(hyper, text(32)), logits(tiny, text(32)))


def test_above_it_the_model_attends_approximately_and_always_in_the_same_way(tiny: LanguageModel) -> None:
    wanted = logits(tiny, text(300))
    use_hyper(tiny, settings=SMALL)
    found = logits(tiny, text(300))
    assert not torch.allclose(found, wanted, atol=1e-6)
    assert (found - wanted).norm() < wanted.norm()  # random weights attend to everything alike: no test of quality
    assert torch.equal(found, logits(tiny, text(300)))
    # the first leaf sees nothing that is estimated
    assert torch.allclose(found[:, :32], wanted[:, :32], atol=1e-5)


def test_a_text_has_the_same_logits_alone_and_in_a_batch(tiny: LanguageModel) -> None:
    use_hyper(tiny, settings=SMALL)
    row, other = text(300), text(300).flip(1)
    alone = logits(tiny, row)
    # float32 sums of another batch round differently: 1e-5 of logits of about 1
    assert torch.allclose(logits(tiny, torch.cat([row, other]))[:1], alone, atol=1e-5)
    assert torch.allclose(logits(tiny, torch.cat([other, row]))[1:], alone, atol=1e-5)


def test_gradients_of_training_reach_every_weight(tiny: LanguageModel) -> None:
    use_hyper(tiny, settings=SMALL)
    ids = text(100)
    tiny.model.train()
    tiny.model(ids, labels=ids).loss.backward()
    for name, weight in tiny.model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_decoding_after_prefill_is_exact(tiny: LanguageModel) -> None:
    use_hyper(tiny, settings=SMALL)
    ids = text(100)
    with torch.inference_mode():
        start = tiny.model(ids[:, :99], use_cache=True)
        kept = start["cache" if "cache" in start.keys() else "past_key_values"]  # noqa: SIM118
        name = "cache" if "cache" in start.keys() else "past_key_values"  # noqa: SIM118
        seen: list[int] = []

        def see(_: int, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
            scores = q @ k.repeat_interleave(2, 1).mT / q.shape[-1] ** 0.5
            assert torch.allclose(out, scores.softmax(-1) @ v.repeat_interleave(2, 1), atol=1e-5)
            seen.append(k.shape[2])

        import copy

        copied = copy.deepcopy(kept)
        step = tiny.model(ids[:, 99:], **{name: kept}).logits
        with on_attention(tiny.model, see):
            exact = tiny.model(ids[:, 99:], **{name: copied}).logits
    assert seen == [100] * 4
    assert torch.equal(step, exact)


def test_padded_rows_attend_exactly(tiny: LanguageModel) -> None:
    mask = torch.ones(2, 100, dtype=torch.long)
    mask[1, 90:] = 0
    wanted = logits(tiny, text(100, 2), attention_mask=mask)
    use_hyper(tiny, settings=SMALL)
    assert torch.allclose(logits(tiny, text(100, 2), attention_mask=mask), wanted, atol=1e-6)


def test_learned_sinks_are_refused_rather_than_left_out() -> None:
    x = torch.zeros(1, 1, 4, 8)
    with pytest.raises(InputError, match="learned sinks"):
        binding.hyper_attention_forward(torch.nn.Module(), x, x, x, None, s_aux=torch.zeros(1))


def test_only_the_chosen_layers_are_patched(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []

    def counted(*tensors: Tensor, generator: torch.Generator, **options: object) -> Tensor:
        called.append(generator.initial_seed())
        return hyper_attention(*tensors, generator=generator, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(binding, "hyper_attention", counted)
    use_hyper(tiny, patch="last:2", settings=SMALL)
    logits(tiny, text(100))
    assert called == [2, 3]
    use_hyper(tiny, patch="even")
    assert [attention(block).hyper_settings for block in blocks(tiny.model)] == [MODEL, None, MODEL, None]


@pytest.mark.parametrize(
    ("patch", "layers"),
    [("all", [0, 1, 2, 3]), ("even", [0, 2]), ("odd", [1, 3]), ("first:1", [0]), ("last:3", [1, 2, 3])],
)
def test_patches(patch: str, layers: list[int]) -> None:
    assert list(patched_layers(patch, 4)) == layers


@pytest.mark.parametrize("patch", ["last", "last:0", "last:5", "middle:2", "first:x", ""])
def test_unknown_patches_are_refused(patch: str) -> None:
    with pytest.raises(InputError, match="the model has 4 layers"):
        patched_layers(patch, 4)


# Errors on a model's own activations


def test_errors_are_measured_on_what_the_model_computes(tiny: LanguageModel) -> None:
    ids = text(200)[0]

    def hyper(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return hyper_attention(q, k, v, causal=True, generator=torch.Generator().manual_seed(0), **vars(SMALL))

    def nothing(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.zeros_like(q)

    contenders = {"exact": local_window(200), "hyper": hyper, "mean": mean_of_values, "zero": nothing}
    with attention_errors(tiny, contenders) as found:
        read = perplexity(tiny, ids)
    assert read == pytest.approx(perplexity(tiny, ids))
    errors = {name: torch.stack(layers) for name, layers in found.items()}
    assert {layers.shape for layers in errors.values()} == {(4, 4)}
    assert float(errors["exact"].max()) < 1e-5
    assert torch.allclose(errors["zero"], torch.ones(4, 4))
    assert 0 < float(errors["hyper"].median()) < 1
    assert tiny.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("n", "width", "pinned"), [(50, 8, 0), (48, 8, 3), (10, 16, 2), (33, 4, 4)])
def test_a_local_window_is_attention_under_a_banded_mask(n: int, width: int, pinned: int) -> None:
    q, k, v = (torch.randn(1, heads, n, 4, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2))
    row, column = torch.arange(n)[:, None], torch.arange(n)
    mask = (column <= row) & ((column > row - width) | (column < pinned))
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert torch.allclose(local_window(width, pinned)(q, k, v), wanted, atol=1e-5)


@pytest.mark.parametrize(("n", "pinned"), [(50, 0), (48, 3), (10, 20)])
def test_a_window_of_equal_cost_computes_as_many_pairs_as_its_width_says(n: int, pinned: int) -> None:
    row, column = torch.arange(n)[:, None], torch.arange(n)
    for width in (1, 7, n):
        mask = (column <= row) & ((column > row - width) | (column < pinned))
        assert window_pairs(n, width, pinned) == int(mask.sum())
    for pairs in range(1, n * (n + 1) // 2 + 1):
        width = equal_width(pairs, n, pinned)
        assert window_pairs(n, width, pinned) >= pairs
        assert width == 0 or window_pairs(n, width - 1, pinned) < pairs


def test_the_mean_of_values_is_attention_to_everything_alike() -> None:
    q, k, v = torch.zeros(1, 2, 9, 4), torch.zeros(1, 2, 9, 4), torch.randn(1, 2, 9, 4)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert float(relative_errors(mean_of_values(q, k, v), wanted).max()) < 1e-5


def test_perplexity_is_that_of_the_chosen_tokens(tiny: LanguageModel) -> None:
    ids = text(60)
    logp = logits(tiny, ids)[0].log_softmax(-1)
    chosen = range(10, 60, 7)
    wanted = -sum(float(logp[i - 1, ids[0, i]]) for i in chosen) / len(chosen)
    assert perplexity(tiny, ids[0], every=7, first=10) == pytest.approx(torch.tensor(wanted).exp().item(), rel=1e-4)


def test_settings_that_leave_nothing_out_leave_the_model_as_it_is(tiny: LanguageModel) -> None:
    wanted = logits(tiny, text(100))
    use_hyper(tiny, settings=replace(SMALL, pin_first=100))
    assert torch.allclose(logits(tiny, text(100)), wanted, atol=1e-5)
