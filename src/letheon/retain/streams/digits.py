"""Streams of scikit-learn's digits (1,797 images of 8 x 8): split by class, permuted, rotated."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.retain.stream import Scenario, Stream, task_of
from letheon.retain.streams.datasets import split_pair, split_tensors


@lru_cache(maxsize=1)
def digits() -> tuple[Float[Tensor, "n 64"], Int[Tensor, " n"]]:
    """Return all digits, flat, with pixels scaled to 0..1, and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)


def split_digits(tasks: int = 5, scenario: Scenario = "class", seed: int = 0) -> Stream:
    """Split the ten digits into tasks of 10 / tasks classes; `domain` numbers classes within the task.

    Args:
        tasks: 1, 2, 5 or 10.
        seed: seed of the fifth of the rows that is held out for tests.
    """
    train, test = split_pair(digits(), seed)
    source = "" if tasks != 5 or seed else "split-digits" + ("" if scenario == "class" else f"/{scenario}")
    return split_tensors("split-digits", train, test, tasks, scenario, source=source)


def permuted_digits(tasks: int = 5, seed: int = 0) -> Stream:
    """Make tasks of all ten digits; each task from the second on has its own order of pixels."""
    (x, y), (tx, ty) = split_pair(digits(), seed)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.arange(x.shape[1])] + [torch.randperm(x.shape[1], generator=generator) for _ in range(tasks - 1)]
    made = tuple(task_of(f"order {i}", i, (x[:, p], y), (tx[:, p], ty)) for i, p in enumerate(orders))
    return Stream("permuted-digits", made, "domain", "permuted-digits" if (tasks, seed) == (5, 0) else "")


def rotated_digits(angles: tuple[float, ...] = (0.0, 22.5, 45.0, 67.5, 90.0), seed: int = 0) -> Stream:
    """Make tasks of all ten digits, rotated by one angle per task (degrees, anticlockwise, bilinear)."""
    from scipy.ndimage import rotate

    if len(set(angles)) != len(angles):
        raise InputError(f"angles {angles}", "give each angle once")
    (x, y), (tx, ty) = split_pair(digits(), seed)

    def turned(images: Tensor, angle: float) -> Tensor:
        square = images.reshape(-1, 8, 8).numpy()
        found = rotate(square, angle, axes=(2, 1), reshape=False, order=1)
        return torch.tensor(found, dtype=torch.float32).reshape(-1, 64)

    made = tuple(
        task_of(f"{angle:g} degrees", i, (turned(x, angle), y), (turned(tx, angle), ty))
        for i, angle in enumerate(angles)
    )
    default = angles == (0.0, 22.5, 45.0, 67.5, 90.0) and not seed
    return Stream("rotated-digits", made, "domain", "rotated-digits" if default else "")
