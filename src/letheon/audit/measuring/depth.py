"""Unlearning depth: at which layers hidden states of the unlearned model still carry the facts, by activation patching.

Hidden states of another model are put into the model before, one layer at a time, at the positions that predict the
tokens of a fact. Stage 1 takes them from the reference: how far the fact's log-probability falls is the gap at that
layer. Stage 2 takes them from the model after. Where its states carry the fact, nothing falls; where the fact is gone,
it falls as far as with the reference's states. The score of a row is the share of the gap that the model after shows,
weighted by the gap: 0, every layer still carries the fact; 1, none does, as if it had never been learned. A larger fall
than the reference's counts as the gap, so a second retrained model, which guesses otherwise, stays below 1.

Paper:   Lee, Kim and Jo, Measuring the Depth of LLM Unlearning via Activation Patching, arXiv 2605.24614, Sec. 3.
Differs: at most `LAYERS` layers, evenly spaced up to the last, instead of all; the fact is the row's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.hooks import bypass, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import start_from
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.examples import Example

# Per batch of rows: for each layer the residual stream at the positions that predict the values' tokens.
States = list[dict[int, Tensor]]

LAYERS = 8
# The gap (nats per token) from which on a layer counts: Sec. 3.2.
TAU = 0.05
ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Depth:
    """The depth of a deletion.

    Attributes:
        scores: per row, 0 to 1; None where the reference shows no gap at any layer, or the row has no value.
        layers: the layers that were patched, from 0.
        gap: per layer, mean fall of the facts' log-probability with the reference's states, nats per token.
        erased: per layer, the share of that gap that the model after shows; None where there is no gap.
    """

    scores: list[float | None]
    layers: list[int]
    gap: list[float]
    erased: list[float | None]


def layers_of(model: LanguageModel) -> list[int]:
    """Return the layers that are patched, evenly spaced up to the last."""
    count = len(blocks(model.base()))
    return sorted({int(layer) for layer in np.linspace(0, count - 1, min(LAYERS, count)).round()})


def _encoded(model: LanguageModel, rows: Sequence[Example]) -> list[Encoded]:
    """Encode rows up to their value's last token; a row without a value has none."""
    coded = []
    for row in model.encoder().encode_all(rows):
        last = max((i for i, carries in enumerate(row.value) if carries), default=-1)
        coded.append(Encoded(row.ids[: row.start + last + 1], row.start, row.value[: last + 1]))
    return coded


def _places(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return row and position of each position that predicts a token of a value."""
    row, position = batch.value_mask.nonzero(as_tuple=True)
    return row, position - 1


@torch.inference_mode()
def fact_states(model: LanguageModel, rows: Sequence[Example]) -> States:
    """Return, per batch of rows and layer, the residual stream at the positions that predict the values' tokens."""
    base, found = model.base(), []
    for batch in _batches(model, rows):
        sites = {layer: Site(layer) for layer in layers_of(model)}
        with record(base, list(sites.values())) as seen:
            base(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, logits_to_keep=1)
        at = _places(batch)
        found.append({layer: seen[site][at].float().cpu() for layer, site in sites.items()})
    return found


def _batches(model: LanguageModel, rows: Sequence[Example]) -> list[Batch]:
    coded = _encoded(model, rows)
    parts = [coded[i : i + ROWS_AT_ONCE] for i in range(0, len(coded), ROWS_AT_ONCE)]
    return [model.encoder().collate(part, device=model.device) for part in parts]


@torch.inference_mode()
def falls(before: LanguageModel, rows: Sequence[Example], states: States) -> Float[np.ndarray, "rows layers"]:
    """Return the fall of each row's value (nats per token) when states of another model enter the model before."""
    base, found = before.base(), []
    for batch, given in zip(_batches(before, rows), states, strict=True):
        at, labels = _places(batch), batch.input_ids[batch.value_mask]
        with record(base, [Site(layer) for layer in given]) as seen:
            logits = base(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        whole = _logp(logits[at], labels)
        table = []
        for layer, other in given.items():
            hidden = seen[Site(layer)].clone()
            hidden[at] = other.to(hidden.device, hidden.dtype)
            table.append(
                _per_row(whole - _logp(_from_layer(before, layer, hidden, batch)[at], labels), at[0], len(batch))
            )
        found.append(torch.stack(table, 1))
    return torch.cat(found).cpu().numpy()


def _from_layer(
    model: LanguageModel, layer: int, hidden: Tensor, batch: Batch
) -> Float[Tensor, "rows length vocabulary"]:
    """Run the layers above one from its outputs."""
    base = model.base()
    last = len(blocks(base)) - 1
    options = {"attention_mask": batch.attention_mask, "use_cache": False}
    if layer == last:
        with start_from(base, last, hidden), bypass(base, last):
            return base(batch.input_ids, **options).logits
    with start_from(base, layer + 1, hidden):
        return base(batch.input_ids, **options).logits


def _logp(logits: Float[Tensor, "tokens vocabulary"], labels: Tensor) -> Float[Tensor, " tokens"]:
    return logits.float().log_softmax(-1).gather(1, labels[:, None])[:, 0]


def _per_row(values: Float[Tensor, " tokens"], row: Tensor, rows: int) -> Float[Tensor, " rows"]:
    """Return the mean of each row's tokens."""
    total = values.new_zeros(rows).index_add(0, row, values)
    return total / torch.bincount(row, minlength=rows).clamp(min=1)


def depth_scores(
    gap: Float[np.ndarray, "rows layers"], lost: Float[np.ndarray, "rows layers"], axis: int = 1
) -> list[float | None]:
    """Return Σ_l gap · clip(lost / gap, 0, 1) / Σ_l gap over the layers with gap > τ; None where there are none.

    With `axis` 0 the sums are over rows, and the result is per layer.

    >>> depth_scores(np.array([[0.0, 1.0, 3.0]]), np.array([[9.0, 0.5, 6.0]]))
    [0.875]
    """
    counts = gap > TAU
    shown = np.where(counts, np.clip(lost, 0, np.maximum(gap, 0)), 0).sum(axis)
    total = np.where(counts, gap, 0).sum(axis)
    return [float(a / b) if b > 0 else None for a, b in zip(shown, total, strict=True)]


def match(before: LanguageModel, *others: States) -> bool:
    """Say whether states have the shape of the model's own: layers, and width."""
    return all(
        list(one) == layers_of(before) and all(states.shape[1] == before.width for states in one.values())
        for states_of in others
        for one in states_of
    )


def measure_depth(before: LanguageModel, rows: Sequence[Example], after: States, reference: States) -> Depth | None:
    """Patch both models' states into the model before; return None where a model has other layers or another width.

    Args:
        after, reference: their states on the same rows, by `fact_states`.
    """
    if not match(before, after, reference):
        return None
    gap, lost = falls(before, rows, reference), falls(before, rows, after)
    layers = list(after[0]) if after else []
    return Depth(depth_scores(gap, lost), layers, gap.mean(0).tolist(), depth_scores(gap, lost, axis=0))
