"""Checkpoints of a run: groups of tensors in safetensors files, whole or absent, the last two kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from letheon.core.atomic import atomic_folder, is_whole, write_json
from letheon.core.runs import Run


def checkpoints(run: Run) -> list[Path]:
    """The whole checkpoints of a run, oldest first; torn ones do not count."""
    return [folder for folder in sorted((run.folder / "checkpoints").glob("step-*")) if is_whole(folder)]


def write_checkpoint(run: Run, step: int, tensors: Mapping[str, Mapping[str, Tensor]], content: Any) -> None:
    """Write `NAME.safetensors` for each group and `content` as step.json; then remove all but the last two.

    Raises:
        InputError: too little space; nothing is written and the earlier checkpoints stand.
    """
    size = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    folder = run.folder / "checkpoints" / f"step-{step:06d}"
    with atomic_folder(folder, needed_bytes=int(1.05 * size)) as temporary:
        for name, group in tensors.items():
            save_file(dict(group), temporary / f"{name}.safetensors")
        write_json(temporary / "step.json", content)
    if is_whole(folder, hashes=True):
        for old in checkpoints(run)[:-2]:
            shutil.rmtree(old)


def drop_checkpoints(run: Run) -> None:
    """Remove them all: what they led to is saved. With Adam's two moments each takes three times the model's room."""
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def tensors_of(folder: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """A group of a checkpoint; empty if it has none of that name.

    The tensors are copies: those of a mapped file begin at odd addresses, where products may round in another order.
    """
    file = folder / f"{name}.safetensors"
    found = load_file(file, device=device) if file.is_file() else {}
    return {key: tensor.clone() for key, tensor in found.items()}
