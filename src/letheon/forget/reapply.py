"""A run's change of the weights, stored beside the model, to be added again after further training.

Paper:   re-application is part of K-FADE (arXiv 2602.10568): θ'' = θ' + c·D, D the sum of all steps, c = 1. It serves
         whoever controls the weights; it protects no weights that were given away.
Differs: here any method's change can be kept. Of an adapter the change of its factors is kept, and adding that again
         adds no multiple of the change of the product.
         The file also knows where the weights stood along D before it was added. A model that was trained on after the
         deletion still holds most of D, and adding it again would double it: `held_share` tells.
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


def save_update(folder: Path, change: Mapping[str, Tensor], method: str, model: LanguageModel) -> Path:
    """Write the change of each weight that moved to `FOLDER/update/update.safetensors`; whole or not at all.

    Args:
        model: the model after the change, from which the place of the weights before it is computed.
    """
    place = folder / "update"
    change = {name: tensor for name, tensor in change.items() if bool(tensor.any())}
    size = sum(tensor.nbytes for tensor in change.values())
    with atomic_folder(place, needed_bytes=int(1.05 * size)) as temporary:
        tensors = {name: tensor.detach().contiguous() for name, tensor in change.items()}
        start = place_along(model, change) - 1
        save_file(tensors, temporary / FILE, metadata={"method": method, "start": repr(start)})
    return place / FILE


def place_along(model: LanguageModel, change: Mapping[str, Tensor]) -> float:
    """<θ, D>/‖D‖²: how many times the weights hold the change, counted from an unknown place; in float64."""
    weights = dict(model.model.named_parameters())
    pairs = [(weights[name].detach(), tensor) for name, tensor in change.items() if name in weights]
    square = sum(float(tensor.double().square().sum()) for _, tensor in pairs)
    product = sum(float((weight.double() * tensor.to(weight.device).double()).sum()) for weight, tensor in pairs)
    return product / square if square else 0.0


def held_share(model: LanguageModel, path: Path) -> float | None:
    """The share of an update that the model's weights hold: about 0 before it was added, 1 after; None if unknown.

    Further training leaves it nearly where it was, unless it undoes the update itself.

    Raises:
        InputError: see `read_update`.
    """
    change = read_update(path)
    with safe_open(path, framework="pt") as file:
        start = (file.metadata() or {}).get("start")
    return None if start is None else place_along(model, change) - float(start)


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
