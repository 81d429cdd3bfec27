"""What retain rows lose: the likelihood of their tokens before the first step, and which rows are below it.

Few rows are, and the loss has no gradient by the others, so that these need no backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.likelihood import score
from letheon.forget.parts import Rows

# What a retained token may lose (nats) before it is learned: rounding is no loss.
SPARE = 0.01


def lost(logp: Float[Tensor, " retained"], before: Float[Tensor, " retained"]) -> Float[Tensor, " retained"]:
    """max(0, log p₀ − log p − s) of each token (nats): p₀ is its probability before the first step, s `SPARE`."""
    return (before - logp - SPARE).relu()


class Levels:
    """The log-probabilities of retained rows' tokens before the first step.

    Args:
        model: the model as it is before the first step.
        rows: the request's rows, which make batches.
        encoded: the retained rows by their numbers.
    """

    @torch.no_grad()
    def __init__(self, model: LanguageModel, rows: Rows, encoded: Mapping[int, Encoded]) -> None:
        self.before: dict[int, Tensor] = {}
        numbered = sorted(encoded.items())
        for part in by_length([len(row.ids) for _, row in numbered], 16):
            numbers = [numbered[i][0] for i in part]
            scores = score(model, rows.batch([numbered[i][1] for i in part], numbers))
            self.before |= {number: scores.logp[scores.row == place] for place, number in enumerate(numbers)}

    def of(self, numbers: Sequence[int]) -> Float[Tensor, " retained"]:
        """The levels (nats) of rows' tokens, one row after the other."""
        return torch.cat([self.before[number] for number in numbers])

    @torch.no_grad()
    def losing(self, model: LanguageModel, batch: Batch) -> Batch:
        """The rows of a batch that have lost anything; its first row where none has, so that the loss has a graph.

        A sharded model's processes make the same passes, whatever their rows lose: there it is the whole batch.
        """
        if model.sharded:
            return batch
        scores = score(model, batch)
        torch.clear_autocast_cache()  # older torch would give the pass with gradients weights that have none
        less = lost(scores.logp, self.of(batch.index.tolist()))
        rows = torch.unique(scores.row[less > 0])
        rows = rows if len(rows) else rows.new_zeros(1)
        if len(rows) == len(batch):
            return batch
        length = int(batch.attention_mask[rows].sum(1).max())
        tables = ("input_ids", "labels", "attention_mask", "value_mask")
        return replace(batch, index=batch.index[rows], **{name: getattr(batch, name)[rows, :length] for name in tables})
