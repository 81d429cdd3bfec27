"""Batched decoding that runs each distinct beginning once and ends a row as soon as its outcome is certain.

Texts that begin alike are a tree, in which every distinct token is run once; each text then takes the keys and values
of its own path. Texts of like length go on together, since each attends over as many tokens as the longest has. A text
leaves the batch at its end token, at its limit, or when `decided` says that more tokens cannot change the outcome; the
few that go on longest wait for those of the next batch. Models whose cache or `generate` is their own are decoded by
`continue_ids` of core, with the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import GenerationMixin
from transformers.cache_utils import DynamicLayer

from letheon.core.model.hooks import labelled_head
from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.answer_trees import window
from letheon.core.scoring.generation import continue_ids, stop_tokens, without_banned
from letheon.core.scoring.prefix_cache import cache_of, cached
from letheon.core.scoring.token_trees import Tree, in_trees, of_like_length, packed

# Tokens of one first pass, padding included.
TOKENS_AT_ONCE = {"cpu": 1024, "gpu": 4096}
# A batch with so few texts left waits for the texts of the next one.
FEW = 8
# A look at whether an outcome is certain decodes the text, which costs a small model as much as a token does.
LOOK_EVERY = 2

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
        banned: token sequences that the new tokens never contain.
        new: the new tokens, the one that ended the text included.
    """

    ids: tuple[int, ...]
    limit: int
    decided: Decided = never
    number: int = 0
    banned: Sequence[Sequence[int]] = ()
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
        found = continue_ids(
            model,
            texts,
            limit,
            temperature=temperature,
            seed=stream_seed(seed, "decoding", asked[0].number),
            batch_size=min(batch_size, 16),
            banned=[one.banned for one in asked] if any(one.banned for one in asked) else None,
        )
        for one, new in zip(asked, found, strict=True):
            one.new = new[: one.limit]
        return
    stops, waiting = set(stop_tokens(model)), list[_Batch]()
    most = TOKENS_AT_ONCE["cpu" if model.device.type == "cpu" else "gpu"]
    passes = _passes(asked, min(most, window(model)))
    for number, trees in enumerate(passes, start=1):
        waiting.append(_first_pass(model, trees, temperature, seed))
        last = number == len(passes)
        if last or sum(len(one.rows) for one in waiting) >= batch_size:
            waiting = [_decode(model, _merged(waiting), temperature, stops, 0 if last else FEW)]
    for one in asked:  # equal texts go on together
        one.new = one.new[: one.limit]


def _passes(asked: Sequence[Ask], most: int) -> list[list[list[Ask]]]:
    """Share texts out over first passes of at most `most` tokens: each pass has some trees, each tree some texts.

    Texts of fewer tokens than a power of two come before those of more.
    """
    by_size: dict[int, list[Ask]] = {}
    for one in asked:
        by_size.setdefault(len(one.ids).bit_length(), []).append(one)
    passes = []
    for _, alike in sorted(by_size.items()):
        trees = [[alike[i] for i in group] for group in in_trees([(one.ids, ()) for one in alike], 0, most)]
        sizes = [len(Tree(one.ids for one in tree).ids) for tree in trees]
        passes += [[trees[i] for i in chosen] for chosen in of_like_length(sizes, most)]
    return passes


def _has_plain_cache(model: LanguageModel) -> bool:
    """Say whether the model decodes by transformers' own loop, takes positions, and has the plain cache."""
    base = model.base()
    own = type(base).generate is not GenerationMixin.generate
    if own or not window(model):
        return False
    if base not in _PLAIN:
        output = base(torch.tensor([[model.pad_id]], device=model.device), use_cache=True)
        layers = getattr(cache_of(output), "layers", [])
        _PLAIN[base] = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
    return _PLAIN[base]


@dataclass
class _Batch:
    """Texts that are being continued.

    Attributes:
        rows: per row of the batch the texts that it continues; several where they are equal, decoding is greedy and
            nothing is banned.
        draws: per row its random stream.
        logits: of each row's next token.
        cache: keys and values, padded on the left.
        mask: [rows, length] 1 at the positions of the row's own tokens.
    """

    rows: list[list[Ask]]
    draws: list[np.random.Generator]
    logits: Float[Tensor, "rows vocabulary"]
    cache: Any
    mask: Int[Tensor, "rows length"]

    def select(self, chosen: list[int]) -> None:
        """Keep some rows."""
        index = torch.tensor(chosen, dtype=torch.long, device=self.mask.device)
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[index], layer.values[index]
        self.logits, self.mask = self.logits[index], self.mask[index]
        self.rows, self.draws = [self.rows[i] for i in chosen], [self.draws[i] for i in chosen]


def _first_pass(model: LanguageModel, trees: Sequence[Sequence[Ask]], temperature: float, seed: int) -> _Batch:
    """Run texts as trees and give each its own path's keys and values."""
    texts = [list(dict.fromkeys(one.ids for one in tree)) for tree in trees]
    rows = [[one for one in tree if one.ids == ids] for tree, own in zip(trees, texts, strict=True) for ids in own]
    grown = [Tree(own) for own in texts]
    base, device = model.base(), model.device
    lengths = [len(row[0].ids) for row in rows]
    longest = max(lengths)
    tree_of = torch.tensor([number for number, tree in enumerate(grown) for _ in tree.paths], device=device)
    paths = torch.tensor([[0] * (longest - len(p)) + p for tree in grown for p in tree.paths], device=device)
    with labelled_head(base, tree_of, paths[:, -1]):
        output = base(**packed(grown, model.pad_id, device), use_cache=True)
    cache = cache_of(output)
    for layer in cache.layers:  # [trees, heads, nodes, width] to [rows, heads, longest, width]
        layer.keys, layer.values = (
            part[tree_of[:, None], :, paths].transpose(1, 2).contiguous() for part in (layer.keys, layer.values)
        )
    places = torch.arange(longest, device=device)[None]
    real = (places >= longest - torch.tensor(lengths, device=device)[:, None]).long()
    batch = _Batch(rows, [np.random.default_rng(0)] * len(rows), output.logits[0].float(), cache, real)
    every = [(number, one) for number, row in enumerate(rows) for one in row]
    if temperature or any(one.banned for _, one in every):
        batch.select([number for number, _ in every])
        batch.rows = [[one] for _, one in every]
    if temperature:
        batch.draws = [np.random.default_rng(stream_seed(seed, "decoding", one.number)) for _, one in every]
    return batch


def _merged(batches: list[_Batch]) -> _Batch:
    """Put batches into one, padded on the left to the longest."""
    first = batches[0]
    if len(batches) == 1:
        return first
    longest = max(one.mask.shape[1] for one in batches)
    short = [longest - one.mask.shape[1] for one in batches]
    for number, layer in enumerate(first.cache.layers):
        layers = [one.cache.layers[number] for one in batches]
        layer.keys = torch.cat([pad(one.keys, (0, 0, n, 0)) for one, n in zip(layers, short, strict=True)])
        layer.values = torch.cat([pad(one.values, (0, 0, n, 0)) for one, n in zip(layers, short, strict=True)])
    return _Batch(
        [row for one in batches for row in one.rows],
        [draw for one in batches for draw in one.draws],
        torch.cat([one.logits for one in batches]),
        first.cache,
        torch.cat([pad(one.mask, (n, 0)) for one, n in zip(batches, short, strict=True)]),
    )


def _decode(model: LanguageModel, batch: _Batch, temperature: float, stops: set[int], few: int) -> _Batch:
    """Decode until no more than `few` rows are left, and return those."""
    base = model.base()
    while len(batch.rows) > few:
        first = [row[0] for row in batch.rows]
        without_banned(batch.logits, [one.new for one in first], [one.banned for one in first])
        chosen = _choose(batch.logits, temperature, batch.draws)
        left = [i for i, row in enumerate(batch.rows) if _goes_on(row, chosen[i], stops)]
        if len(left) < len(batch.rows):
            batch.select(left)
        if not left:
            return batch
        ids = torch.tensor([chosen[i] for i in left], device=batch.mask.device)[:, None]
        positions = batch.mask.sum(1, keepdim=True)
        batch.mask = pad(batch.mask, (0, 1), value=1)
        output = base(ids, attention_mask=batch.mask, position_ids=positions, **cached(base, batch.cache))
        batch.logits = output.logits[:, -1].float()
    return batch


def _goes_on(row: list[Ask], token: int, stops: set[int]) -> bool:
    """Add the token to all texts of a row; say whether any of them needs more, which is looked at every other token."""
    for one in row:
        one.new.append(token)
    if token in stops:
        return False
    return any(len(one.new) < one.limit and (len(one.new) % LOOK_EVERY or not one.decided(one.new)) for one in row)


def _choose(logits: Float[Tensor, "rows vocabulary"], temperature: float, draws: Sequence[Any]) -> list[int]:
    """Return each row's next token: the most probable one, or one drawn from the row's own random stream."""
    if not temperature:
        return [int(token) for token in logits.argmax(-1)]
    share_below = (logits / temperature).softmax(-1).double().cumsum(-1)
    drawn = torch.tensor([draw.random() for draw in draws], dtype=torch.float64, device=logits.device)[:, None]
    return [int(token) for token in torch.searchsorted(share_below / share_below[:, -1:], drawn, right=True)[:, 0]]
