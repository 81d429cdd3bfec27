"""Tensors of single rows from before training (hidden states, attention maps), looked up by row and padded."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import hidden_states
from letheon.forget.parts import joined


class KeptStates:
    """One tensor per row, stored by the row's number and read back as a batch with zeros for padding.

    Args:
        along: the dimensions whose size is the row's length.
    """

    def __init__(self, along: tuple[int, ...] = (0,)) -> None:
        self.along = along
        self.rows: dict[int, Tensor] = {}

    def __setitem__(self, number: int, states: Tensor) -> None:
        self.rows[number] = states.detach()

    def __getitem__(self, number: int) -> Tensor:
        return self.rows[number]

    @torch.no_grad()
    def record(self, model: LanguageModel, batches: list[Batch], layer: int) -> None:
        """Store a block's output for rows given as batches of one; in main memory."""
        for batch in batches:
            self[int(batch.index)] = hidden_states(model, batch, layer)[0].float().cpu()

    def padded(self, batch: Batch) -> Tensor:
        """The tensors of a batch's rows, [rows, ...], as long as the batch and on its device."""
        length = batch.input_ids.shape[1]
        return torch.stack([self._to(self.rows[number], length) for number in batch.index.tolist()]).to(
            batch.labels.device
        )

    def _to(self, states: Tensor, length: int) -> Tensor:
        whole = states.new_zeros([length if i in self.along else size for i, size in enumerate(states.shape)])
        whole[tuple(map(slice, states.shape))] = states
        return whole


def states_of_both(
    model: LanguageModel, forget: Batch | None, retain: Batch | None, layer: int
) -> tuple[
    Float[Tensor, "forget_rows forget_length width"] | None, Float[Tensor, "retain_rows retain_length width"] | None
]:
    """A block's output for both halves of a pair, each as long as its batch; one forward pass if both are given."""
    if forget is None or retain is None:
        only = [None if batch is None else hidden_states(model, batch, layer).float() for batch in (forget, retain)]
        return only[0], only[1]
    hidden = hidden_states(model, joined(forget, retain), layer).float()
    size = len(forget)
    return hidden[:size, : forget.input_ids.shape[1]], hidden[size:, : retain.input_ids.shape[1]]
