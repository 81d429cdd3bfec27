"""Rows of a task, a batch or the replay memory, as tensors that share their first dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

# An epoch's rows are gathered in pieces of about this many bytes, so that large images are not copied all at once.
GATHER_BYTES = 1 << 28


@dataclass(slots=True)
class TaskRows:
    """Rows of one or several tasks.

    Attributes:
        inputs: [n, ...] images or features; token ids [n, length], padded on the right, for language models.
        targets: [n] classes; for language models labels [n, length], -100 off the answer.
        task: [n] number of each row's task.
        index: [n] place among that task's training rows, for values that were computed once per row.
        kept: further tensors [n, ...] of the rows: `length` of token rows, `logits` that a memory stored.
        features: [n, width] inputs of the head in the last pass, where the strategy wants them.
        tokens: answer tokens of the batch that several processes have divided these rows of; 0: they are undivided.
    """

    inputs: Tensor
    targets: Tensor
    task: Tensor
    index: Tensor
    kept: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None
    tokens: float = 0.0

    @classmethod
    def of_task(cls, inputs: Tensor, targets: Tensor, number: int, **kept: Tensor) -> TaskRows:
        """Return the rows of one task, numbered from 0."""
        n, device = len(inputs), inputs.device
        task = torch.full((n,), number, dtype=torch.long, device=device)
        return cls(inputs, targets, task, torch.arange(n, device=device), kept)

    def __len__(self) -> int:
        return len(self.inputs)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        return {"inputs": self.inputs, "targets": self.targets, "task": self.task, "index": self.index, **self.kept}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> TaskRows:
        """Return the rows that `tensors` described."""
        rest = {name: tensor for name, tensor in tensors.items() if name not in ("inputs", "targets", "task", "index")}
        return cls(tensors["inputs"], tensors["targets"], tensors["task"], tensors["index"], rest)

    def at(self, places: Int[Tensor, " m"]) -> TaskRows:
        """Return the rows at these places, in this order; a place may repeat."""
        return self._each(lambda tensor: tensor.index_select(0, places))

    def part(self, start: int, stop: int) -> TaskRows:
        """Return rows start to stop - 1, without a copy."""
        return self._each(lambda tensor: tensor[start:stop])

    def sample(self, most: int, generator: torch.Generator) -> TaskRows:
        """Draw `most` rows without replacement, in random order, or return all rows where there are no more."""
        if len(self) <= most:
            return self
        return self.at(torch.randperm(len(self), generator=generator)[:most].to(self.inputs.device))

    def to(self, device: torch.device) -> TaskRows:
        """Return the rows on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> TaskRows:
        kept = {name: change(tensor) for name, tensor in self.kept.items()} if self.kept else {}
        return TaskRows(change(self.inputs), change(self.targets), change(self.task), change(self.index), kept)

    def batches(self, order: Int[Tensor, " m"], size: int, first: int = 0) -> Iterator[TaskRows]:
        """Yield batches in an order, from batch number `first` on; rows are gathered many batches at a time."""
        row_bytes = max(1, sum(tensor.nbytes for tensor in self.tensors().values()) // max(1, len(self)))
        piece = max(1, GATHER_BYTES // (row_bytes * size)) * size
        for start in range(first * size, len(order), piece):
            chosen = self.at(order[start : start + piece])
            parts = {name: torch.split(tensor, size) for name, tensor in chosen.tensors().items()}
            names = list(chosen.kept)
            kept = zip(*(parts[name] for name in names), strict=True) if names else None
            for four in zip(parts["inputs"], parts["targets"], parts["task"], parts["index"], strict=True):
                yield TaskRows(*four, dict(zip(names, next(kept), strict=True)) if kept else {})


def joined(parts: Sequence[TaskRows]) -> TaskRows:
    """Join rows; pad shorter token rows; leave out further tensors that some part lacks."""
    if len(parts) == 1:
        return parts[0]
    names = [name for name in parts[0].kept if all(name in part.kept for part in parts)]
    return TaskRows(
        _stacked([part.inputs for part in parts], 0),
        _stacked([part.targets for part in parts], -100),
        torch.cat([part.task for part in parts]),
        torch.cat([part.index for part in parts]),
        {name: torch.cat([part.kept[name] for part in parts]) for name in names},
    )


def _stacked(parts: Sequence[Tensor], fill: int) -> Tensor:
    """Concatenate tensors; pad token rows [n, length] on the right to one length."""
    if parts[0].dim() == 2 and parts[0].dtype == torch.long:
        length = max(part.shape[1] for part in parts)
        parts = [functional.pad(part, (0, length - part.shape[1]), value=fill) for part in parts]
    return torch.cat(list(parts))


def bytes_of(tensor: Tensor) -> bytes:
    """Return the tensor's raw bytes, for hashes."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
