"""Order of rows: seeds of random streams, epochs, micro-batches, batches of similar length."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

Row = TypeVar("Row")


def stream_seed(root: int, name: str, number: int = 0) -> int:
    """Derive the seed of a named random stream, so that adding one stream does not change another."""
    digest = hashlib.sha256(f"{root}/{name}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def epochs_of(rows: int, batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Draw `steps` batches of row numbers: one permutation per epoch, whose last batch may be short."""
    import torch

    batches: list[list[int]] = []
    epoch = 0
    while len(batches) < steps:
        generator = torch.Generator().manual_seed(stream_seed(seed, "epoch", epoch))
        order = torch.randperm(rows, generator=generator).tolist()
        batches += [order[i : i + batch_size] for i in range(0, rows, batch_size)]
        epoch += 1
    return batches[:steps]


def micro_batches(rows: Sequence[int], size: int, processes: int = 1) -> list[list[int]]:
    """Split an effective batch into micro-batches of at most `size` rows (0: one per process)."""
    size = size or math.ceil(len(rows) / processes)
    size = min(size, math.ceil(len(rows) / processes))
    return [list(rows[i : i + size]) for i in range(0, len(rows), size)]


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return at most `count` rows, spread evenly over the list, because files are often sorted."""
    count = min(count, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def some_of(count: int, most: int, seed: int) -> list[int]:
    """Draw at most `most` of `count` row numbers, and return them in order; a `most` of 0 takes all."""
    import torch

    if not most or count <= most:
        return list(range(count))
    return sorted(torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].tolist())


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group row numbers into batches of similar length, longest first, so that running out of memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
