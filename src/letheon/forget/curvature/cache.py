"""Curvature factors as files, and the user's cache of fitted factors."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from letheon.core.atomic import atomic_folder, canonical_hash, is_whole
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import cache_folder
from letheon.forget.curvature.kronecker import Block, Factors

logger = logging.getLogger("letheon")

FILE = "factors.safetensors"
FORMAT = 1  # of the cached content and of the way it is computed
KEPT = 4  # factors in the cache; the oldest beyond are removed


def save_factors(factors: Factors, folder: Path) -> Path:
    """Write `FOLDER/factors.safetensors`; whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for name, block in factors.blocks.items():
        parts = {"curvature": block.curvature, "left": block.left, "right": block.right}
        tensors |= {f"{name}/{part}": tensor.contiguous() for part, tensor in parts.items() if tensor is not None}
    size = sum(tensor.nbytes for tensor in tensors.values())
    facts = {"kind": factors.kind, "tokens": str(factors.tokens), "predictions": str(factors.predictions)}
    with atomic_folder(folder, needed_bytes=int(1.05 * size)) as temporary:
        save_file(tensors, temporary / FILE, metadata=facts)
    return folder / FILE


def load_factors(folder: Path, device: str = "cpu") -> Factors:
    """Read what `save_factors` wrote.

    Raises:
        InputError: no such file, or another content.
    """
    try:
        with safe_open(folder / FILE, framework="pt", device=device) as file:
            facts, names = file.metadata(), list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
        factors = Factors(facts["kind"], {}, int(facts["tokens"]), int(facts["predictions"]))
        for name in sorted({name.rpartition("/")[0] for name in names}):
            parts = (tensors.get(f"{name}/{part}") for part in ("left", "right"))
            factors.blocks[name] = Block(tensors[f"{name}/curvature"], *parts)
    except Exception as error:  # the reader raises kinds of its own
        raise InputError(f"{folder} holds no curvature factors: {error}", "fit them again") from None
    return factors


def cached(facts: object, make: Callable[[], Factors], device: str = "cpu") -> Factors:
    """Read factors from the user's cache, or make them and store them there.

    Args:
        facts: everything that decides them (the weights' hash, the rows, the kind, the seed), ready for JSON.
    """
    place = cache_folder() / "kronecker" / canonical_hash([FORMAT, facts])[:24]
    if is_whole(place, hashes=True):
        return load_factors(place, device)
    factors = make()
    try:
        save_factors(factors, place)
        _tidy(place.parent)
    except LetheonError as error:
        logger.warning("the curvature was not kept for another run: %s", error.problem)
    return factors


def _tidy(folder: Path) -> None:
    whole = sorted((entry for entry in folder.iterdir() if is_whole(entry)), key=lambda entry: entry.stat().st_mtime)
    for old in whole[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
