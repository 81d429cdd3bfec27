"""Key/value cache of the prefix that all rows share: computed once, with gradients, and expanded to every row."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.rows.encoding import Batch

# Shorter prefixes (tokens) cost more in an extra pass than they save.
SHORTEST_PREFIX = 8


def common_prefix(batch: Batch, first_needed: int) -> int:
    """Count the leading tokens that all rows share, up to the first position whose logits are needed."""
    if len(batch) < 2:
        return 0
    same = (batch.input_ids == batch.input_ids[:1]).all(0)[:first_needed]
    length = int(same.long().cumprod(0).sum())
    return length if length >= SHORTEST_PREFIX else 0


def above_frozen(
    model: LanguageModel, entering: Float[Tensor, "batch length width"] | None
) -> AbstractContextManager[None]:
    """Start forward passes above the frozen layers, from the states `entering`; does nothing without either."""
    if model.frozen is None or entering is None:
        return nullcontext()
    return start_from(model.base(), model.frozen.below, entering)


def prefix_cache(
    model: LanguageModel,
    prefix: Int[Tensor, "1 prefix"],
    rows: int,
    entering: Float[Tensor, "1 prefix width"] | None = None,
) -> object | None:
    """Compute a prefix's key/value cache with gradients, expanded to `rows`; None if the model has no such cache."""
    with above_frozen(model, entering):
        output = model.base()(prefix, use_cache=True, logits_to_keep=1)
    cache = cache_of(output)
    layers = getattr(cache, "layers", [])
    if entering is not None and model.frozen is not None:
        _fill_skipped(layers, model.frozen.below)
    if not layers or any(not isinstance(getattr(layer, "keys", None), Tensor) for layer in layers):
        return None
    share(layers, rows)
    return cache


def cache_of(output: Any) -> Any:
    """Return the key/value cache of a model's output."""
    return output["cache" if "cache" in output.keys() else "past_key_values"]  # noqa: SIM118 (an attribute probe warns)


def _fill_skipped(layers: Sequence[Any], below: int) -> None:
    """Give skipped layers the keys of a layer that was run: transformers reads only their length.

    Caches with several kinds of layers or with sliding windows are left alone: there the length means something else.
    """
    if len(layers) > below and len(set(map(type, layers))) == 1 and not getattr(layers[below], "is_sliding", False):
        for layer in layers[:below]:
            layer.keys, layer.values, layer.is_initialized = layers[below].keys, layers[below].values, True


def share(layers: Sequence[Any], rows: int) -> None:
    """Expand a cache of one row to `rows` rows."""
    for layer in layers:
        layer.keys = layer.keys.expand(rows, *layer.keys.shape[1:])
        layer.values = layer.values.expand(rows, *layer.values.shape[1:])


def expanded(cache: Any, rows: int) -> Any:
    """Return a cache of one row as one of `rows` rows; a pass that continues from it leaves the first as it was."""
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    share(new.layers, rows)
    return new


def cached(base: Any, cache: object | None) -> dict[str, object]:
    """Return the arguments that continue from a cache; transformers 5.24 renamed `past_key_values` to `cache`."""
    if cache is None:
        return {"use_cache": False}
    name = "cache" if "cache" in inspect.signature(base.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}
