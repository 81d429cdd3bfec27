"""Log-probabilities of labelled tokens, and hidden states, of a batch.

Two savings, neither of which changes a value beyond rounding: the vocabulary matrix is applied at labelled positions
only; the tokens that all rows begin with are run once (prefix_cache). Many answers to one prompt: answer_trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
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
        logits: [n, vocabulary], float32.
        labels: [n], the token that each position should predict.
        row: [n], which row of the batch each belongs to.
        value: [n], whether the token carries the fact.
        rows: how many rows the batch has.
    """

    logits: Tensor
    labels: Tensor
    row: Tensor
    value: Tensor
    rows: int

    @cached_property
    def logp(self) -> Tensor:
        """[n] log-probability of each label, nats."""
        return -functional.cross_entropy(self.logits, self.labels, reduction="none")

    def moments(self) -> tuple[Tensor, Tensor]:
        """[n] mean (nats) and [n] variance (nats squared) of the log-probability of a token drawn at each position."""
        every = self.logits.log_softmax(-1)
        probability = every.exp()
        mean = (probability * every).sum(-1)
        return mean, (probability * every.square()).sum(-1) - mean.square()

    def select(self, mask: Tensor) -> Scores:
        """The scores of some tokens only; `mask` [n]."""
        if bool(mask.all()):
            return self
        chosen = Scores(self.logits, self.labels[mask], self.row[mask], self.value[mask], self.rows)
        if "logp" in self.__dict__:
            chosen.__dict__["logp"] = self.logp[mask]
        chosen.logits = self.logits[mask]
        return chosen

    def part(self, start: int, stop: int) -> Scores:
        """The scores of rows start to stop - 1, renumbered from 0 (rows lie one after another)."""
        low, high = (int(torch.searchsorted(self.row, bound)) for bound in (start, stop))
        mask = slice(low, high)
        return Scores(self.logits[mask], self.labels[mask], self.row[mask] - start, self.value[mask], stop - start)

    def per_row(self, values: Tensor) -> Tensor:
        """[rows]: sums of one value a token over each row."""
        return values.new_zeros(self.rows).index_add(0, self.row, values)

    def lengths(self) -> Tensor:
        """[rows]: how many tokens each row has, at least 1."""
        return torch.bincount(self.row, minlength=self.rows).clamp(min=1)

    def sequence_logp(self) -> Tensor:
        """[rows]: log-probability of each answer, summed over its tokens (nats)."""
        return self.per_row(self.logp)


def score(model: LanguageModel, batch: Batch, positions: Positions = "labels") -> Scores:
    """Logits of a batch at its labelled positions (or at every real position), with gradients where enabled.

    Args:
        model: where `model.frozen` is set, the layers below it come from its cache.
        batch: right-padded rows.
        positions: `labels`, or `all` real tokens but the first of each row.
    """
    wanted = batch.labels if positions == "labels" else _every_token(batch)
    row, column = (wanted[:, 1:] != -100).nonzero(as_tuple=True)
    labels = wanted[row, column + 1]
    value = batch.value_mask[row, column + 1]
    if len(row) == 0:
        vocabulary = model.base().get_output_embeddings().weight.shape[0]
        empty = torch.zeros((0, vocabulary), device=labels.device, requires_grad=torch.is_grad_enabled())
        return Scores(empty, labels, row, value, len(batch))
    logits = _logits(model, batch, common_prefix(batch, int(column.min())), row, column)
    return Scores(logits.float(), labels, row, value, len(batch))


def _every_token(batch: Batch) -> Tensor:
    return batch.input_ids.masked_fill(batch.attention_mask == 0, -100)


def _logits(model: LanguageModel, batch: Batch, prefix: int, row: Tensor, column: Tensor) -> Tensor:
    base = model.base()
    entering = model.frozen.states_of(model.base(), batch) if model.frozen is not None else None
    if model.frozen is not None and not model.frozen.alike:
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


def hidden_states(model: LanguageModel, batch: Batch, layer: int) -> Tensor:
    """[batch, length, width]: a block's output; no layer above it is run, frozen ones come from their cache.

    The tokens that all rows begin with are run once.
    """
    base, frozen = model.base(), model.frozen
    if frozen is not None:
        with above_frozen(model, frozen.states_of(base, batch)):
            return _states(base, layer, batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    prefix = common_prefix(batch, int(batch.attention_mask.sum(1).min()) - 1)
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


def _states(base: Any, layer: int, ids: Tensor, **options: Any) -> Tensor:
    with record(base, [Site(layer)]) as found, stop_after(base, layer):
        base(ids, **options)
    return found[Site(layer)]


def _prefix_states(base: Any, layer: int, prefix: Tensor, rows: int) -> tuple[Tensor | None, object | None]:
    """A block's output for a prefix, [1, prefix, width], and the keys and values up to there, seen by every row.

    Nothing where a model keeps another kind of cache.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=base.config)
    states = _states(base, layer, prefix, **cached(base, cache))
    many = len(blocks(base))
    layers = cache.layers[: layer % many + 1]
    keys = [getattr(one, "keys", None) for one in layers]
    if not keys or any(not isinstance(key, Tensor) or key.shape[-2] != prefix.shape[1] for key in keys):
        return None, None
    share([*layers, *cache.layers[many:]], rows)  # those above the model's own are what add-ons remember
    return states, cache


def sample_labels(logits: Float[Tensor, "n vocabulary"], uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """A label ŷ ~ softmax(logits) at each position, by inverting its distribution function at `uniform` in [0, 1)."""
    steps = torch.softmax(logits.float(), -1).cumsum(-1)
    place = torch.searchsorted(steps, (uniform * steps[:, -1])[:, None], right=True)
    return place[:, 0].clamp(max=logits.shape[1] - 1)
