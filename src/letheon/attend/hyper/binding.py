"""HyperAttention in transformers models, as the attention implementation `hyper`: for prefill and training.

A layer attends approximately where it has a causal mask or none, no row is padded, and there are more than
`min_seq_len` tokens. Everything else is exact: short texts, padded rows, windows, dropout, and decoding (one query
and the cache).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from letheon.attend.hyper.fast import hyper_attention
from letheon.attend.hyper.settings import MODEL, Settings
from letheon.core.errors import InputError
from letheon.core.model.attention import switch
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import attention, blocks

NAME = "hyper"
SETTINGS = "hyper_settings"  # the attribute with an attention module's settings; None: it attends exactly
PATCHES = "all, even, odd, first:N or last:N"


def use_hyper(model: LanguageModel, patch: str = "all", settings: Settings = MODEL) -> LanguageModel:
    """Let layers of a model attend approximately; the others attend exactly.

    Args:
        model: the model, which is changed in place and returned.
        patch: the layers: `all`, `even`, `odd`, `first:N` or `last:N` (as `last:20`).
        settings: options; with the defaults the beginning of the text and the nearest tokens are exact.

    Raises:
        InputError: no such layers, or an architecture whose attention cannot be switched.
    """
    layers = blocks(model.base())
    chosen = patched_layers(patch, len(layers))
    switch(model.base(), NAME)
    for number, block in enumerate(layers):
        setattr(attention(block), SETTINGS, settings if number in chosen else None)
    return model


def patched_layers(patch: str, layers: int) -> range:
    """Return the numbers of the layers that a patch names."""
    kind, _, text = patch.partition(":")
    if kind in ("first", "last") and text.isdecimal() and 0 < int(text) <= layers:
        return range(int(text)) if kind == "first" else range(layers - int(text), layers)
    whole = {"all": range(layers), "even": range(0, layers, 2), "odd": range(1, layers, 2)}
    if patch not in whole:
        raise InputError(f"patch is {patch!r}, the model has {layers} layers", f"give {PATCHES}, N from 1 to {layers}")
    return whole[patch]


def hyper_attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function for transformers: q [batch, heads, n, d], k and v with key heads -> [batch, n, heads, d].

    The layer's number is the seed of directions and samples, which the rows of a batch share: the same text gives the
    same output, alone and in any batch.

    Raises:
        InputError: the heads have learned sinks.
    """
    if options.get("s_aux") is not None:
        raise InputError(
            "this model's heads have learned sinks, which `hyper` does not support", "load it with its own attention"
        )
    settings: Settings | None = getattr(module, SETTINGS, MODEL)
    n = query.shape[2]
    plain = attention_mask is None and not dropout and options.get("position_bias") is None
    alike = key.shape == value.shape and key.shape[2:] == query.shape[2:]
    if settings is None or n <= settings.min_seq_len or not (plain and alike) or options.get("softcap") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **options
        )
    out = hyper_attention(
        query,
        key,
        value,
        causal=getattr(module, "is_causal", True) if is_causal is None else is_causal,
        scale=scaling,
        generator=torch.Generator().manual_seed(getattr(module, "layer_idx", 0)),
        **vars(settings),
    )
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, hyper_attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
