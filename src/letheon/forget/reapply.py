"""A run's change of the weights, stored beside the model, to be added again after further training.

Paper:   re-application is part of K-FADE (arXiv 2602.10568): θ'' = θ' + c·D, D the sum of all steps, c = 1. It serves
         whoever controls the weights; it protects no weights that were given away.
Differs: here any method's change can be kept. Of an adapter the change of its factors is kept, and adding that again
         adds no multiple of the change of the product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from letheon.core.atomic import atomic_folder
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel

FILE = "update.safetensors"


def save_update(folder: Path, change: Mapping[str, Tensor], method: str) -> Path:
    """Write the change of each weight that moved to `FOLDER/update/update.safetensors`; whole or not at all."""
    place = folder / "update"
    change = {name: tensor for name, tensor in change.items() if bool(tensor.any())}
    size = sum(tensor.nbytes for tensor in change.values())
    with atomic_folder(place, needed_bytes=int(1.05 * size)) as temporary:
        tensors = {name: tensor.detach().contiguous() for name, tensor in change.items()}
        save_file(tensors, temporary / FILE, metadata={"method": method})
    return place / FILE


def read_update(path: Path) -> dict[str, Tensor]:
    """The change of each weight.

    Raises:
        InputError: no such file, not safetensors, or nothing in it that could be added to weights.
    """
    remedy = f"give the {FILE} of a run"
    try:
        with safe_open(path, framework="pt") as file:
            update = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except Exception as error:  # the reader raises kinds of its own
        raise InputError(f"{path} cannot be read as an update: {error}", remedy) from None
    bad = [name for name, tensor in update.items() if not bool(torch.isfinite(tensor).all())]
    if bad or not update:
        raise InputError(
            f"{path} {f'holds numbers that are not finite: {bad[0]}' if bad else 'holds no change'}", remedy
        )
    return update


@torch.no_grad()
def reapply(model: LanguageModel, update: Mapping[str, Tensor], scale: float = 1.0) -> None:
    """Add `scale` times the change to the model's weights, in place; -1 takes it back.

    Raises:
        InputError: the model has no such weight, or one of another shape, or the scale is no finite number; nothing
            has changed.
    """
    if not math.isfinite(scale):
        raise InputError(f"scale {scale}", "give a finite number; 1 adds the update once, -1 takes it back")
    weights = dict(model.model.named_parameters())
    for name, change in update.items():
        if name not in weights or weights[name].shape != change.shape:
            found = tuple(weights[name].shape) if name in weights else "no such weight"
            raise InputError(
                f"{model.name}: the update changes {name} {tuple(change.shape)}, the model has {found}",
                "apply it to the model that it was made on, trained further but of the same architecture",
            )
    for name, change in update.items():
        weights[name].add_(change.to(weights[name].device, weights[name].dtype), alpha=scale)
