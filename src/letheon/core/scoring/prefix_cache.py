"""Keys and values of the tokens that all rows begin with: run once, with gradients, and seen by every row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.rows.encoding import Batch

# A prefix shorter than this is not worth a pass of its own.
SHORTEST_PREFIX = 8


def common_prefix(batch: Batch, first_needed: int) -> int:
    """How many leading tokens all rows share, short of the first position whose logits are needed."""
    if len(batch) < 2:
        return 0
    same = (batch.input_ids == batch.input_ids[:1]).all(0)[:first_needed]
    length = int(same.long().cumprod(0).sum())
    return length if length >= SHORTEST_PREFIX else 0


def above_frozen(model: LanguageModel, entering: Tensor | None) -> AbstractContextManager[None]:
    """Within it, passes begin above the frozen layers with what enters there; the whole model is run without such."""
    if model.frozen is None or entering is None:
        return nullcontext()
    return start_from(model.base(), model.frozen.below, entering)


def prefix_cache(model: LanguageModel, prefix: Tensor, rows: int, entering: Tensor | None = None) -> object | None:
    """Keys and values of a prefix, run once with gradients and seen by every row; None where a model has no such."""
    with above_frozen(model, entering):
        output = model.base()(prefix, use_cache=True, logits_to_keep=1)
    cache = output["cache" if "cache" in output.keys() else "past_key_values"]  # noqa: SIM118 (an attribute probe warns)
    layers = getattr(cache, "layers", [])
    if entering is not None and model.frozen is not None:
        _fill_skipped(layers, model.frozen.below)
    if not layers or any(not isinstance(getattr(layer, "keys", None), Tensor) for layer in layers):
        return None
    share(layers, rows)
    return cache


def _fill_skipped(layers: Sequence[Any], below: int) -> None:
    """Layers that were not run get the keys of one that was: only their length is read.

    Nothing is filled in where the length means something else: layers of several kinds, or sliding windows.
    """
    if len(layers) > below and len(set(map(type, layers))) == 1 and not getattr(layers[below], "is_sliding", False):
        for layer in layers[:below]:
            layer.keys, layer.values, layer.is_initialized = layers[below].keys, layers[below].values, True


def share(layers: Sequence[Any], rows: int) -> None:
    """Let every row see a cache that was made for one."""
    for layer in layers:
        layer.keys = layer.keys.expand(rows, *layer.keys.shape[1:])
        layer.values = layer.values.expand(rows, *layer.values.shape[1:])


def cached(base: Any, cache: object | None) -> dict[str, object]:
    """The arguments that continue from a cache; transformers 5.24 renamed `past_key_values` to `cache`."""
    if cache is None:
        return {"use_cache": False}
    name = "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}
