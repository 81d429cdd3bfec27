"""Split MNIST from a user's file: an .npz with `images` and `labels`, or a folder of the four idx files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from letheon.core.errors import InputError
from letheon.retain.stream import Scenario, Stream
from letheon.retain.streams.datasets import Pair, split_pair, split_tensors

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def split_mnist(
    path: str | Path, tasks: int = 5, scenario: Scenario = "class", *, flat: bool = True, seed: int = 0
) -> Stream:
    """Split the ten digits into tasks of 10 / tasks classes.

    Args:
        path: .npz with `images` [n, 28, 28] bytes and `labels` [n] (a fifth is held out), or a folder with the four
            idx files, packed (.gz) or not.
        flat: True for rows of 784 pixels, False for images [1, 28, 28].

    Raises:
        InputError: the file does not exist or has another layout.
    """
    train, test = read_mnist(Path(path), seed)
    source = f"split-mnist{'' if scenario == 'class' else '/' + scenario}={path}"
    if flat:
        train, test = (train[0].flatten(1), train[1]), (test[0].flatten(1), test[1])
    return split_tensors("split-mnist", train, test, tasks, scenario, source=source if (tasks, seed) == (5, 0) else "")


def read_mnist(path: Path, seed: int = 0) -> tuple[Pair, Pair]:
    """Return the training and the test pair: images [n, 1, 28, 28] from 0 to 1 and classes [n]."""
    if path.is_dir():
        arrays = [_idx(path, name) for name in IDX]
        return _pair(arrays[0], arrays[1]), _pair(arrays[2], arrays[3])
    if not path.is_file():
        raise InputError(f"{path} does not exist", "give an .npz with images and labels, or a folder of idx files")
    try:
        with np.load(path, allow_pickle=False) as content:
            images, labels = content["images"], content["labels"]
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{path}: {error}", "an .npz with the arrays `images` and `labels` is needed") from None
    if images.ndim != 3 or len(images) != len(labels):
        raise InputError(f"{path}: images {images.shape}, labels {labels.shape}", "give [n, 28, 28] and [n]")
    return split_pair(_pair(images, labels), seed)


def _pair(images: np.ndarray, labels: np.ndarray) -> Pair:
    return torch.tensor(images).float()[:, None] / 255, torch.tensor(labels.astype(np.int64))


def _idx(folder: Path, name: str) -> np.ndarray:
    """Read an idx file: two zero bytes, the type (8: bytes), the number of dimensions, their sizes, the values."""
    packed, plain = folder / f"{name}.gz", folder / name
    if not packed.is_file() and not plain.is_file():
        raise InputError(f"{folder} has no {name} or {name}.gz", "put MNIST's four files there")
    content = gzip.decompress(packed.read_bytes()) if packed.is_file() else plain.read_bytes()
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    if content[:3] != b"\x00\x00\x08" or len(content) != start + int(np.prod(shape)):
        raise InputError(f"{folder / name}: not an idx file of bytes", "fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
