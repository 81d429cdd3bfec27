"""Where the weights of a training lie: whole in every process, or in shards over all; and how the model is loaded.

With shards, process 0 loads the model into host memory, and the others build it without weights, unless weights are
read before they are spread: then every process loads the model whole onto its device, as it does without shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from letheon.core.devices import check_device
from letheon.core.errors import InputError
from letheon.core.model.formats import Base
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.structure import load_structure, structure_of
from letheon.core.processes import is_main_process, process_count
from letheon.core.training.settings import Shard
from letheon.core.training.sharding import Whole, memory_of
from letheon.core.workers import connect

Place = Callable[[LanguageModel, Mapping[str, nn.Parameter]], Whole]


def device_of_shards(
    model: LanguageModel | str | Path,
    shard: Shard,
    device: str,
    bytes_per_weight: float,
    check: Callable[[nn.Module | None], None],
) -> torch.device | None:
    """Return the device on which this process's shards will lie; None if the weights stay whole.

    Args:
        bytes_per_weight: of the training with whole weights; `auto` shards where they do not fit the device.
        check: refuses shards of a model (`InputError`), given its modules without weights; None for an embedded model.

    Raises:
        InputError: `shard=on` where `check` refuses.
    """
    if shard == "off" or process_count() == 1:
        return None
    structure, chosen = structure_of(model), torch.device(check_device(device))
    if shard == "auto":
        weights = sum(parameter.numel() for parameter in structure.parameters()) if structure is not None else 0
        if bytes_per_weight * weights <= memory_of(chosen):
            return None
    try:
        check(structure)
    except InputError:
        if shard == "on":
            raise
        return None
    return chosen


def load_for(
    model: LanguageModel | str | Path,
    device: str,
    shards: torch.device | None,
    base: Base = "float32",
    reads_weights: bool = False,
) -> LanguageModel:
    """Load a model that will be trained: whole, or this process's part in spreading it in shards.

    Args:
        reads_weights: whether weights are read before they are spread, so that every process needs all of them.
    """
    if shards is None:
        return load(model, device=device, base=base)
    connect(shards)
    if reads_weights:
        return load(model, device=str(shards), base=base)
    whole = is_main_process() or isinstance(model, LanguageModel) or structure_of(model) is None
    if whole or (Path(str(model)) / "adapter_config.json").is_file():
        return load(model, device="cpu", base=base)
    return load_structure(str(model), base)
