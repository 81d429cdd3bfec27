"""Approximate attention as an attention implementation of transformers: where it stands in, and for which layers.

It stands in for prefill and training on long texts. Everything else is exact: texts up to the settings' `exact_up_to`
tokens, padded rows, windows, dropout, and decoding (one query and the cache).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from letheon.core.errors import InputError
from letheon.core.model.attention import ON_SDPA, refuse_unlike_sdpa, switch
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import attention, blocks

PATCHES = "all, even, odd, first:N or last:N"


class Settings(Protocol):
    """Options of an approximate attention."""

    @property
    def exact_up_to(self) -> int:
        """The largest number of tokens that are attended to exactly."""


# q [batch, heads, n, d], k and v with key heads, whether it is causal, scale, settings, number of the layer -> as q
Attend = Callable[[Tensor, Tensor, Tensor, bool, float | None, Any, int], Tensor]
# the attention function of transformers: output [batch, n, heads, d] and no weights
Forward = Callable[..., tuple[Tensor, None]]


def patch_layers(model: LanguageModel, name: str, patch: str, settings: Settings) -> LanguageModel:
    """Let the layers that `patch` names attend by the implementation `name` with these settings; others are exact."""
    layers = blocks(model.base())
    chosen = patched_layers(patch, len(layers))
    switch(model.base(), name)
    for number, block in enumerate(layers):
        setattr(attention(block), settings_of(name), settings if number in chosen else None)
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


def settings_of(name: str) -> str:
    """Return the attribute with an attention module's settings; where it is None, the layer attends exactly."""
    return f"{name}_settings"


def register(name: str, attend: Attend, default: Settings, *, causal_only: bool = False) -> Forward:
    """Register an approximate attention with transformers, and return its attention function.

    Args:
        causal_only: attend exactly where there is no causal mask.
    """

    def forward(
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
        refuse_unlike_sdpa(options, f"the attention {name!r}")
        settings: Settings | None = getattr(module, settings_of(name), default)
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        plain = attention_mask is None and not dropout and options.get("position_bias") is None
        alike = key.shape == value.shape and key.shape[2:] == query.shape[2:]
        fits = plain and alike and (causal or not causal_only)
        if settings is None or query.shape[2] <= settings.exact_up_to or not fits:
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout, scaling, is_causal=is_causal, **options
            )
        out = attend(query, key, value, causal, scaling, settings, getattr(module, "layer_idx", 0))
        return out.transpose(1, 2).contiguous(), None

    AttentionInterface.register(name, forward)
    AttentionMaskInterface.register(name, sdpa_mask)
    ON_SDPA.add(name)
    return forward
