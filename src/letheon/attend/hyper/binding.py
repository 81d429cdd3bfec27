"""HyperAttention in transformers models, as the attention implementation `hyper`: for prefill and training.

A layer attends approximately where it has a causal mask or none, no row is padded, and there are more than
`min_seq_len` tokens. Everything else is exact: `letheon.attend.patching` says what.
"""

from __future__ import annotations

import torch
from torch import Tensor

from letheon.attend.hyper.fast import hyper_attention
from letheon.attend.hyper.settings import MODEL, Settings
from letheon.attend.patching import patch_layers, register
from letheon.core.model.models import LanguageModel

NAME = "hyper"


def use_hyper(model: LanguageModel, patch: str = "all", settings: Settings = MODEL) -> LanguageModel:
    """Let layers of a model attend approximately; the others attend exactly.

    Args:
        model: the model, which is changed in place and returned.
        patch: the layers: `all`, `even`, `odd`, `first:N` or `last:N` (as `last:20`).
        settings: options; with the defaults the beginning of the text and the nearest tokens are exact.

    Raises:
        InputError: no such layers, or an architecture whose attention cannot be switched.
    """
    return patch_layers(model, NAME, patch, settings)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float | None, settings: Settings, layer: int
) -> Tensor:
    """The layer's number is the seed of directions and samples, which the rows of a batch share: the same text gives
    the same output, alone and in any batch."""
    generator = torch.Generator().manual_seed(layer)
    out: Tensor = hyper_attention(q, k, v, causal=causal, scale=scale, generator=generator, **vars(settings))
    return out


hyper_attention_forward = register(NAME, _attend, MODEL)
