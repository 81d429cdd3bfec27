"""Streams from a user's data sets, such as torchvision's: split by class, or one data set per domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from letheon.core.errors import InputError
from letheon.retain.stream import Scenario, Stream, held_out, task_of

Pair = tuple[Tensor, Tensor]
TEST_SHARE = 0.2


def split_tensors(
    name: str,
    train: Pair,
    test: Pair,
    tasks: int,
    scenario: Scenario = "class",
    *,
    order: Sequence[int] | None = None,
    source: str = "",
) -> Stream:
    """Split classes evenly over the tasks of a stream.

    Args:
        train, test: inputs [n, ...] and classes [n].
        scenario: with `domain` every task's classes are numbered from 0 again (the first of each task is class 0).
        order: order of the classes; default rising.

    Raises:
        InputError: the classes cannot be split evenly, or the order does not name each class once.
    """
    found = torch.unique(train[1]).tolist()
    classes = list(order) if order is not None else found
    if sorted(classes) != found:
        raise InputError(f"{name}: an order of the classes {classes}, the rows have {found}", "name each class once")
    if tasks < 1 or len(classes) % tasks:
        raise InputError(f"{name}: {len(classes)} classes in {tasks} tasks", "give a number that divides the classes")
    size = len(classes) // tasks
    made = []
    for i in range(tasks):
        mine = classes[i * size : (i + 1) * size]
        parts = [_of_classes(pair, mine, scenario == "domain") for pair in (train, test)]
        title = " ".join(map(str, mine)) if size <= 5 else f"classes {mine[0]} to {mine[-1]}"
        made.append(task_of(title, i, parts[0], parts[1]))
    return Stream(name, tuple(made), scenario, source)


def split_pair(pair: Pair, seed: int) -> tuple[Pair, Pair]:
    """Hold out a seeded fifth of the rows; return the training and the test pair."""
    inputs, labels = pair
    train, test = held_out(len(labels), TEST_SHARE, seed)
    return (inputs[train], labels[train]), (inputs[test], labels[test])


def _of_classes(pair: Pair, classes: Sequence[int], renumber: bool) -> Pair:
    inputs, labels = pair
    chosen = torch.isin(labels, torch.tensor(classes))
    mine = labels[chosen]
    if renumber:
        mine = (mine[:, None] == torch.tensor(classes)).long().argmax(1)
    return inputs[chosen], mine


def split_by_class(
    dataset: Any, tasks: int, scenario: Scenario = "class", *, test: Any = None, name: str = "", seed: int = 0
) -> Stream:
    """Split a data set of (image, class) items, such as torchvision's, by class.

    Args:
        dataset, test: items [i] -> (tensor, PIL image or array; class); without `test` a fifth is held out.
    """
    whole = as_tensors(dataset)
    train, held = split_pair(whole, seed) if test is None else (whole, as_tensors(test))
    return split_tensors(name or type(dataset).__name__, train, held, tasks, scenario)


def split_by_domain(domains: Mapping[str, Any], *, name: str = "domains", seed: int = 0) -> Stream:
    """Make a stream in which each data set is a task with the same classes; a fifth of each is held out.

    Args:
        domains: data sets by name, or pairs (train, test) of them.
    """
    made = []
    for i, (title, given) in enumerate(domains.items()):
        if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], Tensor):
            train, test = as_tensors(given[0]), as_tensors(given[1])
        else:
            train, test = split_pair(as_tensors(given), seed)
        made.append(task_of(title, i, train, test))
    return Stream(name, tuple(made), "domain")


def as_tensors(dataset: Any) -> Pair:
    """Return a whole data set as inputs [n, ...] (floats; bytes become 0..1) and classes [n]."""
    if isinstance(dataset, tuple):
        inputs, labels = (torch.as_tensor(part) for part in dataset)
    else:
        items = [dataset[i] for i in range(len(dataset))]
        if not items:
            raise InputError(f"{type(dataset).__name__} holds no rows", "give a data set with rows")
        inputs = torch.stack([_as_tensor(item[0]) for item in items])
        labels = torch.tensor([int(item[1]) for item in items])
    if inputs.dtype == torch.uint8:
        inputs = inputs.float() / 255
    return inputs.float(), labels.long()


def _as_tensor(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        return image
    import numpy as np

    array = torch.from_numpy(np.array(image))
    return array.permute(2, 0, 1) if array.dim() == 3 and array.shape[-1] in (1, 3, 4) else array
