"""Where a method's weights lie: whole in every process or in shards, what refuses shards, and how they are loaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.training.placement import Place, device_of_shards, load_for
from letheon.core.training.settings import TrainSettings
from letheon.core.training.sharding import Shards, Whole
from letheon.forget.parts import Update
from letheon.forget.recipe import Recipe, StandaloneMethod


def sharded_device(
    model: LanguageModel | str | Path, recipe: Recipe | StandaloneMethod, training: TrainSettings, device: str
) -> torch.device | None:
    """Return the device on which this process's shards will lie; None if the weights stay whole.

    Raises:
        InputError: `shard=on` with a method that cannot train shards.
    """
    update = recipe.update.method.factory if isinstance(recipe, Recipe) else Update
    held = getattr(update, "bytes_per_weight", Update.bytes_per_weight)
    return device_of_shards(model, training.shard, device, held, partial(check_shards, recipe, training))


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
    reads = isinstance(recipe, Recipe) and getattr(recipe.scope.method.factory, "reads_weights", True)
    return load_for(model, device, shards, training.base, reads)


def place_of(recipe: Recipe, shards: torch.device | None) -> Place:
    """Return what puts a loop's weights into their place."""
    if shards is None:
        return Whole
    return partial(Shards, device=shards, keep_blocks=getattr(recipe.objective.method.factory, "keeps_blocks", False))
