"""Where a run's weights lie: whole in every process, or in shards over all of them; and how the model is loaded for it.

With shards, process 0 loads the model into host memory, and the others build it without weights, unless the scope reads
weights to choose among them: then every process loads it whole onto its device, as it does without shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from letheon.core.devices import check_device
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.structure import load_structure, structure_of
from letheon.core.processes import is_main_process, process_count
from letheon.core.training.settings import TrainSettings
from letheon.core.training.sharding import Shards, Whole, memory_of
from letheon.core.workers import connect
from letheon.forget.parts import Update
from letheon.forget.recipe import Recipe, StandaloneMethod

Place = Callable[[LanguageModel, Mapping[str, nn.Parameter]], Whole]


def sharded_device(
    model: LanguageModel | str | Path, recipe: Recipe | StandaloneMethod, training: TrainSettings, device: str
) -> torch.device | None:
    """Return the device on which this process's shards will lie; None if the weights stay whole.

    Raises:
        InputError: `shard=on` with a method that cannot train shards.
    """
    if training.shard == "off" or process_count() == 1:
        return None
    structure, chosen = structure_of(model), torch.device(check_device(device))
    if training.shard == "auto":
        weights = sum(parameter.numel() for parameter in structure.parameters()) if structure is not None else 0
        update = recipe.update.method.factory if isinstance(recipe, Recipe) else Update
        if getattr(update, "bytes_per_weight", Update.bytes_per_weight) * weights <= memory_of(chosen):
            return None
    try:
        check_shards(recipe, training, structure)
    except InputError:
        if training.shard == "on":
            raise
        return None
    return chosen


def check_shards(recipe: Recipe | StandaloneMethod, training: TrainSettings, structure: nn.Module | None) -> None:
    """Refuse a method that cannot train weights in shards (`InputError`)."""
    if not isinstance(recipe, Recipe):
        raise InputError(
            f"{recipe} reads and writes whole weights, which no process has where they lie in shards",
            "use --shard off, or a recipe",
        )
    if training.base == "4bit":
        raise InputError("base=4bit holds weights that cannot be split into shards", "use base=bfloat16")
    recipe.check_shards(structure)


def load_placed(
    model: LanguageModel | str | Path,
    recipe: Recipe | StandaloneMethod,
    training: TrainSettings,
    device: str,
    shards: torch.device | None,
) -> LanguageModel:
    """Load the model of a run: whole, or this process's part in spreading it in shards."""
    if shards is None:
        return load(model, device=device, base=training.base)
    connect(shards)
    if isinstance(recipe, Recipe) and getattr(recipe.scope.method.factory, "reads_weights", True):
        return load(model, device=str(shards), base=training.base)
    whole = is_main_process() or isinstance(model, LanguageModel) or structure_of(model) is None
    if whole or (Path(str(model)) / "adapter_config.json").is_file():
        return load(model, device="cpu", base=training.base)
    return load_structure(str(model), training.base)


def place_of(recipe: Recipe, shards: torch.device | None) -> Place:
    """Return what puts a loop's weights into their place."""
    if shards is None:
        return Whole
    return partial(Shards, device=shards, keep_blocks=getattr(recipe.objective.method.factory, "keeps_blocks", False))
