"""Score a batch: log-probabilities of its labelled tokens, and hidden states.

Two optimisations change values by rounding only: the output head is applied at labelled positions only, and the prefix
that all rows share is run once (`prefix_cache`). To score many answers per prompt, use `answer_trees`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from letheon.core.model.hooks import labelled_head, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import stop_after
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.prefix_cache import above_frozen, cached, common_prefix, prefix_cache, share

Positions = Literal["labels", "all"]


@dataclass
class Scores:
    """Logits at the labelled positions of a batch.

    Attributes:
        logits: float32.
        labels: the token that each position should predict.
        row: the row of the batch that each position belongs to.
        value: whether the token carries the fact.
        rows: number of rows in the batch.
    """

    logits: Float[Tensor, "n vocabulary"]
    labels: Int[Tensor, " n"]
    row: Int[Tensor, " n"]
    value: Bool[Tensor, " n"]
    rows: int

    @cached_property
    def logp(self) -> Float[Tensor, " n"]:
        """Log-probability of each label, nats."""
        return -functional.cross_entropy(self.logits, self.labels, reduction="none")

    def moments(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Mean (nats) and variance (nats squared) of the log-probability of a token drawn at each position."""
        every = self.logits.log_softmax(-1)
        probability = every.exp()
        mean = (probability * every).sum(-1)
        return mean, (probability * every.square()).sum(-1) - mean.square()

    def select(self, mask: Bool[Tensor, " n"]) -> Scores:
        """Return the scores of the tokens where `mask` is true."""
        if bool(mask.all()):
            return self
        chosen = Scores(self.logits[mask], self.labels[mask], self.row[mask], self.value[mask], self.rows)
        if "logp" in self.__dict__:
            chosen.__dict__["logp"] = self.logp[mask]
        return chosen

    def part(self, start: int, stop: int) -> Scores:
        """Return the scores of rows start to stop - 1, renumbered from 0 (positions are sorted by row)."""
        low, high = (int(torch.searchsorted(self.row, bound)) for bound in (start, stop))
        mask = slice(low, high)
        return Scores(self.logits[mask], self.labels[mask], self.row[mask] - start, self.value[mask], stop - start)

    def per_row(self, values: Shaped[Tensor, " n"]) -> Shaped[Tensor, " rows"]:
        """Sum one value per token over each row."""
        return values.new_zeros(self.rows).index_add(0, self.row, values)

    def lengths(self) -> Int[Tensor, " rows"]:
        """Number of tokens per row, at least 1."""
        return torch.bincount(self.row, minlength=self.rows).clamp(min=1)

    def sequence_logp(self) -> Float[Tensor, " rows"]:
        """Log-probability of each answer, summed over its tokens (nats)."""
        return self.per_row(self.logp)


def score(model: LanguageModel, batch: Batch, positions: Positions = "labels") -> Scores:
    """Compute the logits of a batch at its labelled positions (or at every real position), with gradients if enabled.

    Args:
        model: if `model.frozen` is set, the outputs of the layers below it come from its cache.
        batch: right-padded rows.
        positions: `labels`, or `all` real tokens but the first of each row.
    """
    every = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    wanted = batch.labels if positions == "labels" else every
    row, column = (wanted[:, 1:] != -100).nonzero(as_tuple=True)
    labels = wanted[row, column + 1]
    value = batch.value_mask[row, column + 1]
    if len(row) == 0 and not model.sharded:
        vocabulary = model.base().get_output_embeddings().weight.shape[0]
        empty = torch.zeros((0, vocabulary), device=labels.device, requires_grad=torch.is_grad_enabled())
        return Scores(empty, labels, row, value, len(batch))
    logits = _logits(model, batch, common_prefix(batch, int(column.min())), row, column)
    return Scores(logits.float(), labels, row, value, len(batch))


def _logits(
    model: LanguageModel, batch: Batch, prefix: int, row: Int[Tensor, " n"], column: Int[Tensor, " n"]
) -> Float[Tensor, "n vocabulary"]:
    base = model.base()
    entering = model.frozen.states_of(model.base(), batch) if model.frozen is not None else None
    if model.recomputes or model.sharded or (model.frozen is not None and not model.frozen.alike):
        prefix = 0
    first = entering[:1, :prefix] if entering is not None else None
    cache = prefix_cache(model, batch.input_ids[:1, :prefix], len(batch), first) if prefix else None
    prefix = prefix if cache is not None else 0
    rest = entering[:, prefix:] if entering is not None else None
    length = batch.input_ids.shape[1]
    positions = torch.arange(prefix, length, device=batch.input_ids.device)[None]
    with above_frozen(model, rest), labelled_head(base, row, column - prefix):
        output = base(
            batch.input_ids[:, prefix:],
            attention_mask=batch.attention_mask,
            position_ids=positions.expand(len(batch), -1),
            **cached(base, cache),
        )
    return output.logits[0]


def hidden_states(model: LanguageModel, batch: Batch, layer: int) -> Float[Tensor, "batch length width"]:
    """Compute a block's output without running the layers above it; frozen layers come from their cache.

    The prefix that all rows share is run once.
    """
    base, frozen = model.base(), model.frozen
    if frozen is not None:
        with above_frozen(model, frozen.states_of(base, batch)):
            return _states(base, layer, batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    prefix = (
        0 if model.recomputes or model.sharded else common_prefix(batch, int(batch.attention_mask.sum(1).min()) - 1)
    )
    start, cache = _prefix_states(base, layer, batch.input_ids[:1, :prefix], len(batch)) if prefix else (None, None)
    if start is None:
        return _states(base, layer, batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    positions = torch.arange(prefix, batch.input_ids.shape[1], device=batch.input_ids.device)[None]
    rest = _states(
        base,
        layer,
        batch.input_ids[:, prefix:],
        attention_mask=batch.attention_mask,
        position_ids=positions.expand(len(batch), -1),
        **cached(base, cache),
    )
    return torch.cat([start.expand(len(batch), -1, -1), rest], 1)


def _states(
    base: Any, layer: int, ids: Int[Tensor, "batch length"], **options: Any
) -> Float[Tensor, "batch length width"]:
    with record(base, [Site(layer)]) as found, stop_after(base, layer):
        base(ids, **options)
    return found[Site(layer)]


def _prefix_states(
    base: Any, layer: int, prefix: Int[Tensor, "1 prefix"], rows: int
) -> tuple[Float[Tensor, "1 prefix width"] | None, object | None]:
    """Compute a block's output for a prefix, and the keys and values up to that block, expanded to all rows.

    Both are None if the model uses another kind of cache.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=base.config)
    states = _states(base, layer, prefix, **cached(base, cache))
    many = len(blocks(base))
    layers = cache.layers[: layer % many + 1]
    keys = [getattr(one, "keys", None) for one in layers]
    if not keys or any(not isinstance(key, Tensor) or key.shape[-2] != prefix.shape[1] for key in keys):
        return None, None
    share([*layers, *cache.layers[many:]], rows)  # cache layers beyond the model's own belong to add-ons
    return states, cache


def sample_labels(logits: Float[Tensor, "n vocabulary"], uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Draw ŷ ~ softmax(logits) at each position by inverting the distribution function at `uniform` in [0, 1)."""
    steps = torch.softmax(logits.float(), -1).cumsum(-1)
    place = torch.searchsorted(steps, (uniform * steps[:, -1])[:, None], right=True)
    return place[:, 0].clamp(max=logits.shape[1] - 1)
