"""Stream: tasks of tensors or examples that arrive one after another, with checks of their rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.retain.rows import TaskRows, bytes_of

# class: one head over all classes. task: the task's number is known at test time, and only its classes count. domain:
# every task has the same classes.
Scenario = Literal["class", "task", "domain"]
Data = TaskRows | tuple[Example, ...]


@dataclass(frozen=True)
class Task:
    """One task of a stream.

    Attributes:
        name: name for tables and figures.
        train, test: rows as tensors, or examples for a language model.
        classes: the classes that the task's rows may have; empty for texts.
    """

    name: str
    train: Data
    test: Data
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stream:
    """Tasks in the order in which they are learned.

    Attributes:
        name: name for tables and figures.
        tasks: one task or more.
        scenario: the knowledge at test time, see `Scenario`; texts are always `domain`.
        source: the text that `read_stream` read, so that a run can be continued from its folder alone.

    Raises:
        InputError: an empty task, a class in two tasks, unlike shapes; names the task.
    """

    name: str
    tasks: tuple[Task, ...]
    scenario: Scenario = "class"
    source: str = ""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError(f"stream {self.name} has no task", "give at least one")
        for number, task in enumerate(self.tasks, start=1):
            self._check_task(number, task)
        names = [task.name for task in self.tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"stream {self.name}: two tasks are called {twice!r}", "give each a name of its own")
        if self.is_text != all(isinstance(task.train, tuple) for task in self.tasks):
            raise InputError(f"stream {self.name} mixes tasks of texts with tasks of tensors", "use two streams")
        if not self.is_text:
            self._check_classes()

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    @property
    def is_text(self) -> bool:
        """Whether the tasks hold examples for a language model."""
        return isinstance(self.tasks[0].train, tuple)

    @property
    def classes(self) -> int:
        """The number of outputs that a head needs: the largest class and one."""
        return 1 + max(max(task.classes, default=-1) for task in self.tasks)

    def fingerprint(self) -> str:
        """Return a hash of all rows; a run continues only with the stream that it was started with."""
        return canonical_hash([self.scenario, [[task.name, _digest(task.train), _digest(task.test)] for task in self]])

    def _check_task(self, number: int, task: Task) -> None:
        where = f"stream {self.name}, task {number} ({task.name})"
        for part, rows in (("train", task.train), ("test", task.test)):
            if not len(rows):
                raise InputError(f"{where}: no {part} rows", "every task needs rows to learn from and rows to test on")
        if isinstance(task.train, TaskRows) and isinstance(task.test, TaskRows):
            first = self.tasks[0].train
            if isinstance(first, TaskRows) and task.train.inputs.shape[1:] != first.inputs.shape[1:]:
                found = tuple(task.train.inputs.shape[1:]), tuple(first.inputs.shape[1:])
                raise InputError(
                    f"{where}: rows of shape {found[0]}, task 1 has rows of shape {found[1]}", "make them alike"
                )
            if task.train.inputs.is_floating_point() and not bool(torch.isfinite(task.train.inputs).all()):
                raise InputError(f"{where}: an input is not finite", "remove rows with NaN or infinity")

    def _check_classes(self) -> None:
        seen: dict[int, Task] = {}
        for number, task in enumerate(self.tasks, start=1):
            where = f"stream {self.name}, task {number} ({task.name})"
            if min(task.classes, default=-1) < 0:
                raise InputError(f"{where}: classes {task.classes}", "number classes from 0")
            for one in task.classes:
                if one in seen and self.scenario != "domain":
                    raise InputError(
                        f"{where}: class {one} is also in task {seen[one].name}",
                        "each class belongs to one task; or say that the scenario is 'domain'",
                    )
                seen[one] = task


def task_of(
    name: str, number: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: Sequence[int] = ()
) -> Task:
    """Make a task of tensors.

    Args:
        number: its place in the stream, from 0.
        train, test: inputs [n, ...] and classes [n].
        classes: the classes that rows may have; default the classes of the training rows.

    Raises:
        InputError: inputs and classes differ in number, or a test row has a class that no training row has.
    """
    for part, (inputs, targets) in (("train", train), ("test", test)):
        if len(inputs) != len(targets):
            raise InputError(
                f"task {name}: {len(inputs)} {part} inputs and {len(targets)} classes", "give one class per row"
            )
    found = tuple(sorted(set(classes) or set(train[1].tolist())))
    strange = sorted(set(test[1].tolist()) - set(found))
    if strange and len(test[0]):
        raise InputError(f"task {name}: test rows of class {strange[0]}, which no training row has", "split again")
    return Task(name, TaskRows.of_task(*_plain(train), number), TaskRows.of_task(*_plain(test), number), found)


def _plain(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[0].contiguous(), pair[1].long().contiguous()


def _digest(rows: Data) -> Any:
    if isinstance(rows, tuple):
        return canonical_hash([dataclasses.asdict(row) | {"id": ""} for row in rows])
    digest = hashlib.sha256()
    for tensor in (rows.inputs, rows.targets):
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


def held_out(n: int, share: float, seed: int) -> tuple[Int[Tensor, " a"], Int[Tensor, " b"]]:
    """Hold out a seeded share; return the places of training and of test rows, at least one each where n > 1."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    size = min(max(1, round(share * n)), n - 1)
    return order[size:].sort().values, order[:size].sort().values
