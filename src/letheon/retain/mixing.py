"""Task rows and general texts in one stream of batches: their order, and the two parts of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from letheon.retain.strategies.gere import dealt

IGNORED = -100  # the label of a token without a loss


class MixingSampler(Sampler[int]):
    """Numbers of rows and, from `rows` on, of texts, in another order in each epoch.

    Args:
        rows, texts: how many there are.
        per_batch: texts in each batch, at random places, each text equally often; 0 for each text once per epoch.
        batch: rows and texts in an effective batch.
    """

    def __init__(self, rows: int, texts: int, per_batch: int, batch: int, seed: int) -> None:
        self.rows, self.texts, self.per_batch, self.batch = rows, texts, per_batch, batch
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self.epoch = epoch

    def _batches(self) -> int:
        return -(-self.rows // (self.batch - self.per_batch))

    def __len__(self) -> int:
        return self.rows + (self._batches() * self.per_batch if self.per_batch else self.texts)

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(self.seed + self.epoch)
        if not self.per_batch:
            yield from torch.randperm(len(self), generator=draw).tolist()
            return

        def shuffled(number: int) -> Tensor:
            return torch.randperm(self.texts, generator=torch.Generator().manual_seed(self.seed + number))

        order = torch.randperm(self.rows, generator=draw)
        first = self.epoch * self._batches()
        for number, own in enumerate(torch.split(order, self.batch - self.per_batch), start=first):
            texts = dealt(number * self.per_batch, (number + 1) * self.per_batch, self.texts, shuffled)
            both = torch.cat([own, texts + self.rows])
            yield from both[torch.randperm(len(both), generator=draw)].tolist()


class _Text(NamedTuple):
    place: int


class Mixed(Dataset[Any]):
    """The task's rows, then the texts."""

    def __init__(self, rows: Any, sampler: MixingSampler) -> None:
        self.rows, self.sampler = rows, sampler

    def __len__(self) -> int:
        return len(self.rows) + self.sampler.texts

    def set_epoch(self, epoch: int) -> None:
        """Choose the sampler's order: a resumed run of several processes reaches the dataset alone."""
        self.sampler.set_epoch(epoch)

    def __getitem__(self, number: int) -> Any:
        return self.rows[number] if number < len(self.rows) else _Text(number - len(self.rows))


@dataclass
class Collator:
    """Makes a batch's parts: `task` by the user's collator, `general` padded on the right, `places` of the texts."""

    rows: Callable[[list[Any]], Any]
    texts: list[list[int]]
    padding: int

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        places = [item.place for item in items if isinstance(item, _Text)]
        rows = [item for item in items if not isinstance(item, _Text)]
        batch: dict[str, Any] = {"task": self.rows(rows)} if rows else {}
        if places:
            texts = [torch.tensor(self.texts[place]) for place in places]
            batch["places"] = torch.tensor(places)
            batch["general"] = {
                "input_ids": _padded(texts, self.padding),
                "attention_mask": _padded([torch.ones_like(one) for one in texts], 0),
                "labels": _padded(texts, IGNORED),
            }
        return batch


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
