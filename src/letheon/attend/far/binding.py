"""Far attention in transformers models, as the attention implementation `far`: for prefill and training.

A layer attends to chosen keys where its mask is causal, no row is padded, and there are more than `exact_up_to` tokens.
Everything else is exact: `letheon.attend.patching` says what.
"""

from __future__ import annotations

from torch import Tensor

from letheon.attend.far.fast import far_attention
from letheon.attend.far.settings import FAR, Settings
from letheon.attend.patching import patch_layers, register
from letheon.core.model.models import LanguageModel

NAME = "far"


def use_far(model: LanguageModel, patch: str = "all", settings: Settings = FAR) -> LanguageModel:
    """Let layers of a model attend to near keys and to chosen far keys; the others attend exactly.

    Args:
        model: the model, which is changed in place and returned.
        patch: the layers: `all`, `even`, `odd`, `first:N` or `last:N` (as `last:20`).
        settings: options.

    Raises:
        InputError: no such layers, or an architecture whose attention cannot be switched.
    """
    return patch_layers(model, NAME, patch, settings)


def _attend(q: Tensor, k: Tensor, v: Tensor, _: bool, scale: float | None, settings: Settings, __: int) -> Tensor:
    out: Tensor = far_attention(q, k, v, scale=scale, **vars(settings))
    return out


far_attention_forward = register(NAME, _attend, FAR, causal_only=True)
