"""Logits of a frozen reference model without a second model in memory.

Before training starts, the model's input to its output head is stored for every row; the reference's logits are later
one matrix product away. If an architecture transforms its logits further, the logits themselves are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from letheon.core.model.hooks import head_input
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Positions, score


class Reference:
    """Looks up the logits that a model had when `keep` was called."""

    def __init__(self) -> None:
        self._states: dict[int, Tensor] = {}
        self._logits: dict[int, Tensor] = {}
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    @torch.no_grad()
    def keep(self, model: LanguageModel, rows: Sequence[Batch], positions: Positions = "labels") -> None:
        """Store the states from which later logits are computed.

        Args:
            rows: batches of one row each; rows that are stored already are skipped.
            positions: the positions of the logits; the same value as in later calls of `score`.
        """
        head = model.base().get_output_embeddings()
        if self._weight is None:
            # copy the matrix only if training may change it
            moves = head.weight.requires_grad
            weight, bias = whole(head.weight), getattr(head, "bias", None)
            self._weight = weight.clone() if moves else weight
            self._bias = whole(bias).clone() if bias is not None else None
        for batch in rows:
            number = int(batch.index[0])
            if number in self._states or number in self._logits:
                continue
            with head_input(model.base()) as seen:
                logits = score(model, batch, positions).logits
            if len(logits) and not torch.allclose(self._product(seen[-1]), logits, atol=1e-4, rtol=1e-4):
                self._logits[number] = logits.clone()
            else:
                self._states[number] = seen[-1].clone() if len(logits) else logits.new_zeros(0, self._weight.shape[1])

    def _product(self, states: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
        if self._weight is None:
            raise RuntimeError("Reference.keep was not called")
        return functional.linear(states, self._weight, self._bias).float()

    @torch.no_grad()
    def logits(self, batch: Batch) -> Float[Tensor, "n vocabulary"]:
        """Return the reference's logits at the stored positions of the batch's rows, row after row."""
        numbers = batch.index.tolist()
        if all(number in self._states for number in numbers):
            return self._product(torch.cat([self._states[number] for number in numbers]))
        return torch.cat([self._logits[n] if n in self._logits else self._product(self._states[n]) for n in numbers])


def whole(weight: Any) -> Tensor:
    """Return a weight without its graph, put together if it lies in shards."""
    tensor: Tensor = weight.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
