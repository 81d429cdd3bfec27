"""Attention weights in blocks: equal to eager attention in every family, bounded in memory; masked heads."""

from __future__ import annotations

import pytest
import torch

from letheon.core.model.embedded import byte_tokenizer
from letheon.core.model.models import LanguageModel
from letheon.probe import attention_maps
from letheon.probe.attention_maps import LayerAttention, head_mask, on_attention_rows, summarise_attention
from tests.core.test_activations import FAMILIES


def built(name: str, attention: str) -> LanguageModel:
    import transformers

    config, options = FAMILIES[name]
    torch.manual_seed(0)
    settings = getattr(transformers, config)(**options, attn_implementation=attention)
    model = transformers.AutoModelForCausalLM.from_config(settings).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return LanguageModel(model, byte_tokenizer(), name)


@pytest.mark.oracle("attention-maps")
@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_of_rows_are_eager_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_maps, "BLOCK", 4 * 100 * 7)  # seven rows of a hundred keys per block
    ids = torch.randint(3, 200, (1, 100), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = built(name, "eager").model(ids, output_attentions=True, use_cache=False)
    model, rows = built(name, "sdpa") if name != "gemma2" else built(name, "eager"), {}

    def see(seen: LayerAttention) -> None:
        rows[seen.layer] = torch.cat([weights for _, weights in seen.blocks()], 2)

    with torch.no_grad(), on_attention_rows(model, see):
        logits = model.model(ids, use_cache=False).logits
    for layer, weights in enumerate(expected.attentions):
        torch.testing.assert_close(rows[layer], weights, atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(logits, expected.logits, atol=2e-3, rtol=1e-3)


def test_no_block_exceeds_its_limit_at_8192_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither queries times keys nor heads times layers is ever held: the largest block stays below BLOCK numbers."""
    n, sizes = 8192, []
    seen = LayerAttention(0, torch.zeros(1, 4, n, 2), torch.zeros(1, 2, n, 2), None, 1.0)
    whole = LayerAttention.rows

    def rows(self: LayerAttention, start: int, stop: int) -> torch.Tensor:
        weights = whole(self, start, stop)
        sizes.append(weights.numel())
        return weights

    monkeypatch.setattr(LayerAttention, "rows", rows)
    first = next(seen.blocks())[1]
    assert max(sizes) <= attention_maps.BLOCK < 4 * n * n
    torch.testing.assert_close(first[0, 0, 3, :5], torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]))


@pytest.mark.oracle("attention-maps")
def test_received_weight_and_entropy_are_those_of_the_whole_map(tiny: LanguageModel) -> None:
    ids = torch.arange(5, 45)[None]
    summary = summarise_attention(tiny, ids)
    tiny.model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = torch.stack(tiny.model(ids, output_attentions=True, use_cache=False).attentions)[:, 0]
    torch.testing.assert_close(summary.received, maps.sum(2) / torch.arange(40, 0, -1))
    torch.testing.assert_close(summary.entropy, torch.special.entr(maps).sum(-1).mean(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.oracle("masked-heads")
def test_a_masked_head_attends_uniformly_or_gives_nothing(tiny: LanguageModel) -> None:
    from letheon.core.model.hooks import record
    from letheon.core.model.sites import Site

    ids, site = torch.arange(5, 25)[None], Site(1, "heads")
    outputs = {}
    for mode in ("uniform", "zero"):
        with (
            torch.no_grad(),
            record(tiny.model, [site]) as found,
            on_attention_rows(tiny, masked=head_mask(tiny, [(1, 2)]), mode=mode),  # type: ignore[arg-type]
        ):
            tiny.model(ids, use_cache=False)
        outputs[mode] = found[site].view(1, 20, 4, 16)
    values = {}
    from letheon.core.model.attention import on_attention

    with torch.no_grad(), on_attention(tiny.model, lambda layer, q, k, v, out: values.__setitem__(layer, v)):
        tiny.model(ids, use_cache=False)
    running = values[1][0, 1].cumsum(0) / torch.arange(1, 21)[:, None]  # head 2 reads key head 1
    torch.testing.assert_close(outputs["uniform"][0, :, 2], running, atol=1e-5, rtol=1e-4)
    assert not outputs["zero"][0, :, 2].any()
    torch.testing.assert_close(outputs["uniform"][0, :, 3], outputs["zero"][0, :, 3])
