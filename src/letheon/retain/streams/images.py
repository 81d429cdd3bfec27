"""Streams of a user's own images from a TOML file: the classes of a folder or an .npz, split into tasks.

name = "photos"
images = "photos/"       # one folder per class, or an .npz: `images` [n, h, w] or [n, h, w, c] bytes, `labels` [n]
test = "photos-test/"    # the same for tests; without it a fifth is held out
tasks = 5                # the classes are split evenly; default two per task where they are even, else one
scenario = "class"       # or task, domain
size = 32                # images of a folder are scaled to so many pixels either way
channels = 3             # or 1, grey
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from letheon.core.errors import InputError, nearest
from letheon.retain.stream import Scenario, Stream
from letheon.retain.streams.datasets import Pair, as_tensors, split_pair, split_tensors

FORMATS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
DEFAULTS: dict[str, Any] = {"test": "", "tasks": 0, "scenario": "class", "size": 32, "channels": 3}
KNOWN = ["name", "images", *DEFAULTS]
NAMED = 5  # tasks of more classes are named by the first and the last


def image_stream(path: Path, content: Mapping[str, Any]) -> Stream:
    """Make the stream that a file with `images` describes; paths in it are relative to it.

    Raises:
        InputError: a fault in the file, no image, an image that cannot be read, or classes that cannot be split evenly.
    """
    for field in content:
        if field not in KNOWN:
            raise InputError(f"{path}: unknown field {field!r}", nearest(field, KNOWN))
    chosen = DEFAULTS | dict(content)
    for field, usual in DEFAULTS.items():
        if type(chosen[field]) is not type(usual):
            kind = "a number" if isinstance(usual, int) else "a text"
            raise InputError(f"{path}: {field} {chosen[field]!r} is not {kind}", f"write {field} = {usual!r}")
    scenario, size, channels = chosen["scenario"], chosen["size"], chosen["channels"]
    if scenario not in get_args(Scenario):
        raise InputError(f"{path}: scenario {scenario!r}", "write class, task or domain")
    if size < 1 or channels not in (1, 3) or chosen["tasks"] < 0:
        raise InputError(f"{path}: size {size}, channels {channels}, tasks {chosen['tasks']}", "channels are 1 or 3")
    whole, names = read_images(path.parent / str(chosen["images"]), size, channels)
    if chosen["test"]:
        held, others = read_images(path.parent / chosen["test"], size, channels)
        if others != names:
            raise InputError(f"{path}: images of {names}, tests of {others}", "give both the same classes")
        if whole[0].shape[1:] != held[0].shape[1:]:
            sizes = f"{tuple(whole[0].shape[1:])}, tests of {tuple(held[0].shape[1:])}"
            raise InputError(f"{path}: images of the size {sizes}", "give both one size")
    train, test = (whole, held) if chosen["test"] else split_pair(whole, 0)
    tasks = chosen["tasks"] or (len(names) // 2 if len(names) % 2 == 0 else len(names))
    stream = split_tensors(str(content.get("name", path.stem)), train, test, tasks, scenario, source=str(path))
    each = len(names) // tasks
    titles = [_title(names[i * each : (i + 1) * each]) for i in range(tasks)]
    return replace(stream, tasks=tuple(replace(one, name=t) for one, t in zip(stream.tasks, titles, strict=True)))


def read_images(path: Path, size: int, channels: int) -> tuple[Pair, list[str]]:
    """Read images [n, channels, size, size] from 0 to 1 and classes [n], with the classes' names in their order.

    An .npz keeps the size and the channels that it has.
    """
    if path.is_dir():
        return _of_folder(path, size, channels)
    if not path.is_file():
        raise InputError(f"{path} does not exist", "give a folder with one folder per class, or an .npz")
    try:
        with np.load(path, allow_pickle=False) as content:
            images, labels = content["images"], content["labels"]
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise InputError(f"{path}: {error}", "an .npz with the arrays `images` and `labels` is needed") from None
    if images.ndim not in (3, 4) or len(images) != len(labels) or labels.ndim != 1 or not len(images):
        raise InputError(f"{path}: images {images.shape}, labels {labels.shape}", "give [n, h, w] or [n, h, w, c], [n]")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise InputError(f"{path}: a label is no number", "give each image its class")
    names = sorted(set(labels.tolist()))
    inputs = torch.from_numpy(images)
    inputs = inputs[:, None] if images.ndim == 3 else inputs.permute(0, 3, 1, 2)
    classes = torch.tensor([names.index(one) for one in labels.tolist()])
    return as_tensors((inputs, classes)), list(map(str, names))


def _of_folder(path: Path, size: int, channels: int) -> tuple[Pair, list[str]]:
    files = {
        folder.name: [file for file in sorted(folder.iterdir()) if file.suffix.lower() in FORMATS]
        for folder in sorted(path.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    empty = next((name for name, found in files.items() if not found), None)
    if not files or empty is not None:
        raise InputError(f"{path / (empty or '')} has no {'image' if files else 'folder'}", "one folder per class")
    images = [_image(file, size, channels) for found in files.values() for file in found]
    classes = [number for number, found in enumerate(files.values()) for _ in found]
    return as_tensors((torch.from_numpy(np.stack(images)), torch.tensor(classes))), list(files)


def _image(file: Path, size: int, channels: int) -> np.ndarray:
    """Read one file as bytes [channels, size, size]."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError("images in files need pillow, which is not installed", "pip install pillow") from None
    try:
        with Image.open(file) as image:
            scaled = image.convert("RGB" if channels == 3 else "L").resize((size, size))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image: {error}", "remove it, or save it again") from None
    array = np.asarray(scaled, dtype=np.uint8)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _title(names: list[str]) -> str:
    return " ".join(names) if len(names) <= NAMED else f"{names[0]} to {names[-1]}"
