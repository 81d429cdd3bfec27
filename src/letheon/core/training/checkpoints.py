"""Checkpoints of a run: groups of tensors in safetensors files. Writes are atomic, and the last two stay on disk."""

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
    """List the complete checkpoints of a run, oldest first."""
    return [folder for folder in sorted((run.folder / "checkpoints").glob("step-*")) if is_whole(folder)]


def write_checkpoint(run: Run, step: int, tensors: Mapping[str, Mapping[str, Tensor]], content: Any) -> None:
    """Write `NAME.safetensors` per group and `content` as step.json; then delete all but the last two checkpoints.

    Raises:
        LetheonError: the disk is too full; nothing is written and earlier checkpoints stay.
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
    """Delete all checkpoints once the final model is saved.

    Each is about three times the model's size (weights and two Adam moments).
    """
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)


def tensors_of(folder: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """Read a group of tensors from a checkpoint; empty if the checkpoint has no such group.

    Tensors are copied: in a mapped file they start at odd addresses, where matrix products may round differently.
    """
    file = folder / f"{name}.safetensors"
    found = load_file(file, device=device) if file.is_file() else {}
    return {key: tensor.clone() for key, tensor in found.items()}
