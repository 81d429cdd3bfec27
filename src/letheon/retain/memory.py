"""Replay memory: a uniform sample of all rows so far, in preallocated tensors.

Every row draws a random key when it arrives, and the rows with the smallest keys stay. Over all rows this is reservoir
sampling: each of n rows stays with probability capacity / n. Within classes or tasks it gives a memory that is
balanced over them and uniform within each. A row that cannot enter is rejected after one comparison.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.retain.rows import TaskRows

Policy = Literal["reservoir", "class", "task"]
# Up to this many rows a sample is drawn without replacement; above, duplicates are rare and a permutation is slow.
PERMUTE_UP_TO = 4096
# A larger memory is a memory-mapped file.
IN_MEMORY_BYTES = 1 << 31


class Memory:
    """Stored rows for replay.

    Args:
        capacity: largest number of stored rows.
        policy: `reservoir`, or balanced over `class` or `task`.
        generator: source of all random draws; on the CPU, so that every device draws alike.
        device: the device that stores the rows.
    """

    def __init__(
        self,
        capacity: int,
        policy: Policy = "reservoir",
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        if capacity < 1:
            raise InputError(f"a memory of {capacity} rows", "give a capacity of at least 1")
        self.capacity, self.policy, self.generator, self.device = capacity, policy, generator, torch.device(device)
        self.seen = 0
        self.filled = 0
        self.drawn = 0  # rows that `sample` has returned so far: the cost of replay
        self.keys: Float[Tensor, " capacity"] = torch.full((capacity,), math.inf, dtype=torch.float64)
        self._tensors: dict[str, Tensor] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return self.filled

    @torch.no_grad()
    def add(self, rows: TaskRows, **kept: Tensor) -> None:
        """Offer new rows to the memory; the policy decides which rows stay.

        Args:
            kept: tensors [n, ...] to store beside the rows, such as `logits`; `sample(...).kept` returns them.
        """
        n = len(rows)
        keys = torch.rand(n, generator=self.generator, dtype=torch.float64)
        self.seen += n
        full = self.filled == self.capacity
        if full and self.policy == "reservoir" and float(keys.min()) >= float(self.keys.max()):
            return
        tensors = {name: tensor.detach() for name, tensor in rows.tensors().items()} | kept
        if not self._tensors:
            self._allocate(tensors)
        self._check(tensors)
        stays = self._choice(torch.cat([self.keys[: self.filled], keys]), rows)
        incoming = stays[self.filled :].nonzero().flatten()
        fresh = torch.arange(self.filled, min(self.capacity, self.filled + len(incoming)))
        slots = torch.cat([(~stays[: self.filled]).nonzero().flatten(), fresh])[: len(incoming)]
        self.keys[slots] = keys[incoming]
        here, there = slots.to(self.device), incoming.to(rows.inputs.device)
        for name, store in self._tensors.items():
            store.index_copy_(0, here, tensors[name].index_select(0, there).to(store))
        self.filled += len(fresh)

    def _choice(self, keys: Float[Tensor, " n"], rows: TaskRows) -> Bool[Tensor, " n"]:
        """Return which of the stored and of the new rows stay."""
        if len(keys) <= self.capacity:
            return torch.ones(len(keys), dtype=torch.bool)
        rank = keys
        if self.policy != "reservoir":
            name = "targets" if self.policy == "class" else "task"
            groups = torch.cat([self._tensors[name][: self.filled].cpu(), rows.tensors()[name].cpu()])
            rank = keys + place_in_group(keys, groups)
        return rank <= rank.kthvalue(self.capacity).values

    def _allocate(self, tensors: dict[str, Tensor]) -> None:
        size = sum(self.capacity * tensor[:1].nbytes for tensor in tensors.values())
        if size > IN_MEMORY_BYTES and self.device.type == "cpu":
            self._folder = tempfile.TemporaryDirectory(prefix="letheon-memory-")
        for name, tensor in tensors.items():
            shape = (self.capacity, *tensor.shape[1:])
            self._tensors[name] = self._empty(name, shape, tensor.dtype)

    def _empty(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if self._folder is None:
            return torch.zeros(shape, dtype=dtype, device=self.device)
        kind = torch.zeros((), dtype=dtype).numpy().dtype
        path = Path(self._folder.name) / f"{name}.npy"
        return torch.from_numpy(np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape))

    def _check(self, tensors: dict[str, Tensor]) -> None:
        for name, store in self._tensors.items():
            found = tuple(tensors[name].shape[1:]) if name in tensors else None
            if found != tuple(store.shape[1:]):
                raise InputError(
                    f"memory: rows come with {name} of shape {found}, the first had {tuple(store.shape[1:])}",
                    "add rows of one form",
                )

    # Reading

    def sample(self, n: int, *, task: int | None = None) -> TaskRows | None:
        """Draw at most `n` stored rows, perhaps of one task; None where there are none.

        Without replacement from up to 4,096 rows, with replacement from more.
        """
        if task is not None:
            places = (self._tensors["task"][: self.filled] == task).nonzero().flatten() if self.filled else None
            if places is None or not len(places):
                return None
            return self._drawn(places[self._draw(len(places), n).to(places.device)])
        return self._drawn(self._draw(self.filled, n)) if self.filled else None

    def _drawn(self, places: Int[Tensor, " m"]) -> TaskRows:
        self.drawn += len(places)
        places = places.to(self.device)
        return TaskRows.from_tensors({name: store.index_select(0, places) for name, store in self._tensors.items()})

    def _draw(self, total: int, n: int) -> Int[Tensor, " m"]:
        if total <= PERMUTE_UP_TO:
            return torch.randperm(total, generator=self.generator)[:n]
        return torch.randint(total, (n,), generator=self.generator)

    def rows(self, *, task: int | None = None) -> TaskRows | None:
        """Return all stored rows, perhaps of one task; None where there are none."""
        if not self.filled:
            return None
        kept = TaskRows.from_tensors({name: store[: self.filled] for name, store in self._tensors.items()})
        if task is None:
            return kept
        places = (kept.task == task).nonzero().flatten()
        return kept.at(places) if len(places) else None

    def tasks(self) -> list[int]:
        """Return the numbers of the tasks that have stored rows."""
        return [] if not self.filled else torch.unique(self._tensors["task"][: self.filled]).tolist()

    # Restarts

    def state_dict(self) -> dict[str, Tensor]:
        """Return counts, keys and rows; the generator's state is saved apart."""
        counts = {name: torch.tensor(getattr(self, name)) for name in ("seen", "filled", "drawn")}
        rows = {f"rows/{name}": store[: self.filled].clone() for name, store in self._tensors.items()}
        return counts | {"keys": self.keys} | rows

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.seen, self.filled, self.drawn = (int(state[name]) for name in ("seen", "filled", "drawn"))
        self.keys.copy_(state["keys"])
        rows = {name.removeprefix("rows/"): t for name, t in state.items() if name.startswith("rows/")}
        if rows:
            self._allocate(rows)
            for name, tensor in rows.items():
                self._tensors[name][: self.filled].copy_(tensor)


def place_in_group(keys: Float[Tensor, " n"], groups: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return each row's rank by key within its group, from 0."""
    by_key = keys.argsort()
    by_group = groups[by_key].argsort(stable=True)
    order = by_key[by_group]
    sorted_groups = groups[order]
    _, counts = torch.unique_consecutive(sorted_groups, return_counts=True)
    starts = counts.cumsum(0) - counts
    place = torch.empty(len(keys), dtype=torch.long)
    place[order] = torch.arange(len(keys)) - starts.repeat_interleave(counts)
    return place
