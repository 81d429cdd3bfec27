"""A frozen reference model that is never a second model in memory.

What is needed of it is computed once, while the weights are still its own, and looked up by row number: summed
log-probabilities, or the states that its vocabulary matrix saw, from which its logits are one product away. Where an
architecture does more than that product to its logits, the logits themselves are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from letheon.core.model.hooks import head_input
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Positions, score


class Reference:
    """Logits of the model as it was when `keep` was called."""

    def __init__(self) -> None:
        self._states: dict[int, Tensor] = {}
        self._logits: dict[int, Tensor] = {}
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    @torch.no_grad()
    def keep(self, model: LanguageModel, rows: Sequence[Batch], positions: Positions = "labels") -> None:
        """Keep what later logits need.

        Args:
            rows: batches of one row each; a row that is kept already is passed over.
            positions: where logits will be asked for; the same as in the later calls of `score`.
        """
        head = model.base().get_output_embeddings()
        if self._weight is None:
            # a copy only where the matrix may move
            moves = head.weight.requires_grad
            self._weight = head.weight.detach().clone() if moves else head.weight.detach()
            bias = getattr(head, "bias", None)
            self._bias = bias.detach().clone() if bias is not None else None
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

    def _product(self, states: Tensor) -> Tensor:
        if self._weight is None:
            raise RuntimeError("nothing was kept")
        return functional.linear(states, self._weight, self._bias).float()

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """[n, vocabulary]: the reference's logits at the positions that were kept for these rows, row after row."""
        numbers = batch.index.tolist()
        if all(number in self._states for number in numbers):
            return self._product(torch.cat([self._states[number] for number in numbers]))
        return torch.cat([self._logits[n] if n in self._logits else self._product(self._states[n]) for n in numbers])
