"""Attention weights of single heads in bounded memory, and interventions on heads.

No map of all layers is ever held: a layer's queries and keys are seen in the forward pass, and its weights are computed
for a block of query rows at a time, so that the largest tensor is [batch, heads, rows, keys].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.core.model.attention import refuse_unlike_sdpa, replaced_attention
from letheon.core.model.models import LanguageModel

# Numbers per block of attention weights: 16 million float32 are 64 MB.
BLOCK = 16_000_000
Mode = Literal["uniform", "zero"]
Phase = Literal["decode", "all"]


@dataclass(frozen=True)
class LayerAttention:
    """The queries and keys of one call of a layer's attention, from which rows of attention weights are computed.

    Attributes:
        layer: index of the layer.
        queries: [batch, heads, n, d], after rotary positions.
        keys: [batch, key heads, keys, d]; several query heads may share one key head.
        mask: true (or zero) where a query may see a key, [batch or 1, 1, n, keys]; None for causal attention.
        scaling: factor on the products.
        softcap: bound of the logits, as in Gemma 2; None for no bound.
        nowhere: logit per head of attending to no key, as in gpt-oss, so that rows sum to less than 1; None without.
    """

    layer: int
    queries: Float[Tensor, "batch heads n d"]
    keys: Float[Tensor, "batch keyheads keys d"]
    mask: Tensor | None
    scaling: float
    softcap: float | None = None
    nowhere: Float[Tensor, " heads"] | None = None

    @property
    def length(self) -> int:
        """The number of query positions."""
        return self.queries.shape[2]

    def rows(self, start: int, stop: int) -> Float[Tensor, "batch heads rows keys"]:
        """Compute the attention weights of the queries `start` to `stop` (exclusive) in float32."""
        batch, heads, n, width = self.queries.shape
        count, length = self.keys.shape[1], self.keys.shape[2]
        grouped = self.queries[:, :, start:stop].float().reshape(batch, count, heads // count, -1, width)
        logits = (grouped @ self.keys.float()[:, :, None].transpose(-1, -2)) * self.scaling
        logits = logits.reshape(batch, heads, -1, length)
        if self.softcap:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        if self.mask is None:
            position = torch.arange(start, min(stop, n), device=logits.device)[:, None] + length - n
            logits = logits.masked_fill(torch.arange(length, device=logits.device) > position, -torch.inf)
        elif self.mask.dtype == torch.bool:
            logits = logits.masked_fill(~self.mask[:, :, start:stop, :length], -torch.inf)
        else:
            logits = logits + self.mask[:, :, start:stop, :length]
        if self.nowhere is not None:
            beside = self.nowhere.float()[None, :, None, None].expand(batch, -1, logits.shape[2], 1)
            return torch.softmax(torch.cat([logits, beside], -1), -1)[..., :-1]
        # a padded query that sees nothing has weight zero everywhere
        return torch.softmax(logits, -1).nan_to_num()

    def blocks(self, first: int = 0) -> Iterator[tuple[int, Float[Tensor, "batch heads rows keys"]]]:
        """Yield (first query, weights) for consecutive blocks of queries from `first` on."""
        batch, heads = self.queries.shape[:2]
        size = max(1, BLOCK // (batch * heads * self.keys.shape[2]))
        for start in range(first, self.length, size):
            yield start, self.rows(start, min(start + size, self.length))


@contextmanager
def on_attention_rows(
    model: LanguageModel,
    see: Callable[[LayerAttention], None] | None = None,
    *,
    masked: Bool[Tensor, "batch layers heads"] | None = None,
    mode: Mode = "uniform",
    phase: Phase = "all",
) -> Iterator[None]:
    """Call `see` with every layer's queries and keys, and mask heads, while the block runs.

    Args:
        see: called once per layer and forward pass, before heads are masked.
        masked: heads to mask, per row of the batch (or [1, layers, heads] for all rows).
        mode: `uniform` lets a masked head attend to all visible positions alike; `zero` removes its output.
        phase: `decode` masks in calls with a single query only, which leaves the prompt's keys and values unchanged.

    Raises:
        InputError: an indexer of the model's chooses its keys (DeepSeek 3.2), which is not done here.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **options: Any) -> Any:
        softcap, nowhere = options.pop("softcap", None), options.pop("s_aux", None)
        refuse_unlike_sdpa(options, "what reads attention here", "probe another model")
        scaling = options.get("scaling") or q.shape[-1] ** -0.5
        nowhere = None if nowhere is None else nowhere.detach()
        seen = LayerAttention(module.layer_idx, q, k, mask, scaling, softcap, nowhere)
        if see is not None:
            see(seen)
        off = None
        if masked is not None and (phase == "all" or q.shape[2] == 1):
            off = masked[:, module.layer_idx].to(q.device)
            if mode == "uniform":
                q = q.masked_fill(off[:, :, None, None], 0.0)
        if softcap or nowhere is not None:
            out = _attended(replace(seen, queries=q), v)
        else:
            out = sdpa_attention_forward(module, q, k, v, mask, **options)[0]
        if off is not None and mode == "zero":
            out = out.masked_fill(off[:, None, :, None], 0.0)
        return out, None

    with replaced_attention(model.base(), attend):
        yield


def _attended(seen: LayerAttention, values: Tensor) -> Float[Tensor, "batch n heads d"]:
    """Compute the output of attention whose logits are bounded or may go nowhere, which SDPA does not know."""
    repeated = values.repeat_interleave(seen.queries.shape[1] // values.shape[1], 1).float()
    parts = [weights @ repeated for _, weights in seen.blocks()]
    return torch.cat(parts, 2).to(values.dtype).transpose(1, 2).contiguous()


def head_mask(model: LanguageModel, heads: list[tuple[int, int]]) -> Bool[Tensor, "1 layers heads"]:
    """Make the mask of a list of (layer, head)."""
    mask = torch.zeros(1, *heads_shape(model), dtype=torch.bool)
    for layer, head in heads:
        mask[0, layer, head] = True
    return mask


def heads_shape(model: LanguageModel) -> tuple[int, int]:
    """Return the numbers of layers and of query heads per layer."""
    config = model.base().config.get_text_config()
    return int(config.num_hidden_layers), int(config.num_attention_heads)


def stacked(model: LanguageModel, found: Mapping[int, Tensor], missing: float = 0.0) -> Tensor:
    """Stack values by layer, [layers, ...]; a layer without attention, as hybrids have, is filled with `missing`."""
    some = next(iter(found.values()))
    return torch.stack(
        [found[layer] if layer in found else torch.full_like(some, missing) for layer in range(heads_shape(model)[0])]
    )


@dataclass(frozen=True)
class AttentionSummary:
    """What one text's attention looks like, layer by layer; zeros in a layer without attention.

    Attributes:
        received: mean weight that each key receives from the queries that can see it, [layers, heads, keys].
        entropy: mean entropy (nats) of each head's rows, [layers, heads].
    """

    received: Float[Tensor, "layers heads keys"]
    entropy: Float[Tensor, "layers heads"]


@torch.inference_mode()
def summarise_attention(model: LanguageModel, ids: Int[Tensor, "1 length"]) -> AttentionSummary:
    """Compute the weight each position receives, and each head's entropy, over one text.

    Position t's received weight is the sum of its column over the queries i >= t, divided by their number.
    """
    received: dict[int, Tensor] = {}
    entropy: dict[int, Tensor] = {}

    def see(seen: LayerAttention) -> None:
        columns = torch.zeros(seen.queries.shape[1], seen.keys.shape[2])
        spread = torch.zeros(seen.queries.shape[1])
        for _, weights in seen.blocks():
            columns += weights[0].sum(1).cpu()
            spread += torch.special.entr(weights[0]).sum((1, 2)).cpu()
        visible = torch.arange(columns.shape[1], 0, -1)
        received[seen.layer], entropy[seen.layer] = columns / visible, spread / seen.length

    with on_attention_rows(model, see):
        model.base()(ids.to(model.device), use_cache=False, logits_to_keep=1)
    return AttentionSummary(stacked(model, received), stacked(model, entropy))
