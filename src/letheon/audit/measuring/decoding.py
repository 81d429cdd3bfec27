"""Batched decoding that shares prompts' common beginnings and ends a row as soon as its outcome is certain.

Rows that begin alike are run on one key/value cache of that beginning, equal rows once. A row leaves the batch at its
end token, at its limit, or when `decided` says that more tokens cannot change the outcome. Models whose cache or
`generate` is their own are decoded by `generate_ids` of core, with the same results.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import DynamicLayer

from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import continue_ids, stop_tokens
from letheon.core.scoring.prefix_cache import SHORTEST_PREFIX, cached, share

# Tokens of one first pass, padding included, and rows decoded together.
TOKENS_AT_ONCE = 2048
# Rows that begin with so many equal tokens are batched together, the longer beginning first.
BEGINNINGS = (64, SHORTEST_PREFIX)
LEAST_ALIKE = 4

# Whether a model's cache is the plain one, which takes a pass to see.
_PLAIN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()

Decided = Callable[[list[int]], bool]


def never(new: list[int]) -> bool:
    """Say that the whole answer is wanted."""
    return False


@dataclass
class Ask:
    """One text that a model continues.

    Attributes:
        ids: its tokens.
        limit: largest number of new tokens.
        decided: says of the new tokens so far whether more of them can no longer change the outcome.
        number: index of its random stream; rows that are sampled do not depend on their batch.
        new: the new tokens, the one that ended the text included.
    """

    ids: tuple[int, ...]
    limit: int
    decided: Decided = never
    number: int = 0
    new: list[int] = field(default_factory=list)


@torch.inference_mode()
def decode(
    model: LanguageModel, asked: Sequence[Ask], temperature: float = 0.0, seed: int = 0, batch_size: int = 64
) -> None:
    """Continue each text and write the new tokens into it; temperature 0 is greedy."""
    if not asked:
        return
    if not _has_plain_cache(model):
        texts = [list(one.ids) for one in asked]
        limit = max(one.limit for one in asked)
        found = continue_ids(model, texts, limit, temperature=temperature, seed=seed, batch_size=min(batch_size, 16))
        for one, new in zip(asked, found, strict=True):
            one.new = new[: one.limit]
        return
    for group in batches([one.ids for one in asked], batch_size):
        _decode_batch(model, [asked[i] for i in group], temperature, seed)


def batches(rows: Sequence[tuple[int, ...]], batch_size: int) -> list[list[int]]:
    """Group row numbers into batches of rows that begin alike and are of similar length, longest first."""
    left, groups = list(range(len(rows))), []
    for size in BEGINNINGS:
        alike = Counter(rows[i][:size] for i in left)
        common = {start for start, count in alike.items() if count >= LEAST_ALIKE and len(start) == size}
        groups += [[i for i in left if rows[i][:size] == start] for start in common]
        left = [i for i in left if rows[i][:size] not in common]
    made: list[list[int]] = []
    for group in [*groups, left]:
        batch: list[int] = []
        for i in sorted(group, key=lambda i: (-len(rows[i]), rows[i], i)):
            longest = len(rows[batch[0]]) if batch else len(rows[i])
            crowded = (len({rows[j] for j in batch}) + 1) * longest > TOKENS_AT_ONCE
            if batch and (crowded or len(batch) >= batch_size or len(rows[i]) < 0.6 * longest):
                made.append(batch)
                batch = []
            batch.append(i)
        made += [batch] if batch else []
    return made


def _has_plain_cache(model: LanguageModel) -> bool:
    """Say whether the model decodes by transformers' own loop and takes positions."""
    base = model.base()
    own = type(base).generate is not GenerationMixin.generate
    return not own and "position_ids" in inspect.signature(base.forward).parameters and _cache_is_plain(model)


def _cache_is_plain(model: LanguageModel) -> bool:
    if model.base() not in _PLAIN:
        _PLAIN[model.base()] = _runs_on_plain_layers(model)
    return _PLAIN[model.base()]


def _runs_on_plain_layers(model: LanguageModel) -> bool:
    output = model.base()(torch.tensor([[model.pad_id]], device=model.device), use_cache=True)
    layers = getattr(_cache_of(output), "layers", [])
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _cache_of(output: Any) -> Any:
    return output["cache" if "cache" in output.keys() else "past_key_values"]  # noqa: SIM118 (an attribute probe warns)


def _decode_batch(model: LanguageModel, asked: list[Ask], temperature: float, seed: int) -> None:
    """Decode one batch; equal rows are run once up to their first new token, and to the end if greedy."""
    distinct = list(dict.fromkeys(one.ids for one in asked))
    logits, cache, mask = _first_pass(model, distinct)
    rows = [[one for one in asked if one.ids == ids] for ids in distinct]
    if temperature:
        index = torch.tensor([distinct.index(one.ids) for one in asked], device=model.device)
        logits, mask = logits[index], mask[index]
        _select(cache, index)
        rows = [[one] for one in asked]
    draws = [np.random.default_rng(stream_seed(seed, "decoding", row[0].number)) for row in rows]
    stops, positions = set(stop_tokens(model)), mask.sum(1)
    while True:
        chosen = _choose(logits, temperature, draws)
        open_rows = [i for i, (row, token) in enumerate(zip(rows, chosen, strict=True)) if _goes_on(row, token, stops)]
        if not open_rows:
            return
        if len(open_rows) < len(rows):
            index = torch.tensor(open_rows, device=model.device)
            _select(cache, index)
            mask, positions = mask[index], positions[index]
            rows, draws, chosen = ([given[i] for i in open_rows] for given in (rows, draws, chosen))  # type: ignore[assignment]
        ids = torch.tensor(chosen, device=model.device)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        output = model.base()(
            ids, attention_mask=mask, position_ids=positions[:, None], **cached(model.base(), cache), logits_to_keep=1
        )
        logits, positions = output.logits[:, -1].float(), positions + 1


def _goes_on(row: list[Ask], token: int, stops: set[int]) -> bool:
    """Add the token to all texts of a row; say whether any of them needs more."""
    for one in row:
        one.new.append(token)
    if token in stops:
        return False
    return any(len(one.new) < one.limit and not one.decided(one.new) for one in row)


def _first_pass(model: LanguageModel, rows: list[tuple[int, ...]]) -> tuple[Float[Tensor, "rows vocabulary"], Any, Any]:
    """Run the texts; return the logits of each one's next token, the cache and the mask of its positions."""
    base, device = model.base(), model.device
    shared = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    shared = min(shared, min(map(len, rows)) - 1) if len(rows) > 1 else 0
    cache: Any = None
    if shared >= SHORTEST_PREFIX:
        output = base(torch.tensor([rows[0][:shared]], device=device), use_cache=True, logits_to_keep=1)
        cache = _cache_of(output)
        share(cache.layers, len(rows))
    else:
        shared = 0
    longest = max(map(len, rows)) - shared
    ids = torch.full((len(rows), longest), model.pad_id, dtype=torch.long)
    mask = torch.ones((len(rows), shared + longest), dtype=torch.long)
    for at, row in enumerate(rows):
        rest = row[shared:]
        ids[at, longest - len(rest) :] = torch.tensor(rest)
        mask[at, shared : shared + longest - len(rest)] = 0
    mask = mask.to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    options = {"use_cache": True} if cache is None else cached(base, cache)
    output = base(ids.to(device), attention_mask=mask, position_ids=positions, logits_to_keep=1, **options)
    return output.logits[:, -1].float(), _cache_of(output), mask


def _select(cache: Any, index: Tensor) -> None:
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[index], layer.values[index]


def _choose(logits: Float[Tensor, "rows vocabulary"], temperature: float, draws: Sequence[Any]) -> list[int]:
    """Return each row's next token: the most probable one, or one drawn from the row's own random stream."""
    if not temperature:
        return [int(token) for token in logits.argmax(-1)]
    share_below = (logits / temperature).softmax(-1).double().cumsum(-1)
    drawn = torch.tensor([draw.random() for draw in draws], dtype=torch.float64, device=logits.device)[:, None]
    return [int(token) for token in torch.searchsorted(share_below / share_below[:, -1:], drawn, right=True)[:, 0]]
