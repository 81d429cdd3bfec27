"""The change that a run made, kept apart from the model, and added again after the model was trained further.

Paper:   re-application is part of K-FADE (arXiv 2602.10568); here any method's change can be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.models import LanguageModel
from letheon.core.runs import atomic_folder

FILE = "update.safetensors"


def save_update(folder: Path, change: Mapping[str, Tensor], method: str) -> Path:
    """Write the change of each weight to `FOLDER/update/update.safetensors`; whole or not at all."""
    place = folder / "update"
    size = sum(tensor.nbytes for tensor in change.values())
    with atomic_folder(place, needed_bytes=int(1.05 * size)) as temporary:
        tensors = {name: tensor.contiguous() for name, tensor in change.items()}
        save_file(tensors, temporary / FILE, metadata={"method": method})
    return place / FILE


def read_update(path: Path) -> dict[str, Tensor]:
    """The change of each weight.

    Raises:
        InputError: no such file, or not safetensors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except Exception as error:  # the reader raises kinds of its own
        raise InputError(f"{path} cannot be read as an update: {error}", f"give the {FILE} of a run") from None


@torch.no_grad()
def reapply(model: LanguageModel, update: Mapping[str, Tensor], scale: float = 1.0) -> None:
    """Add `scale` times the change to the model's weights, in place; -1 takes it back.

    Raises:
        InputError: the model has no such weight, or one of another shape; nothing has changed.
    """
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
