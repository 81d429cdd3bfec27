"""Control vectors of other programs: llama.cpp's GGUF (repeng's layout), and plain safetensors of one vector per layer.

A GGUF control vector has the architecture `controlvector` and one float32 tensor `direction.LAYER` of the model's width
per layer. Layers are counted as here; llama.cpp adds a direction to the output of the block of that number, and has no
place for one at layer 0.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter
from torch import Tensor

from letheon.core.atomic import atomic_write_bytes
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.steer.maps import Displacement
from letheon.steer.steering import KEY, Shape, Steering, read_tensors

ARCHITECTURE = "controlvector"


def directions_of(steering: Steering, strength: float = 1.0) -> dict[int, Tensor]:
    """Return the vectors that a steering adds to the residual stream, by layer.

    Raises:
        InputError: the steering does something else, or acts on layer 0 or on some tokens only.
    """
    problems = [f"layer {layer}: a switch of experts" for layer in steering.switches]
    for site, one in steering.maps.items():
        if site.kind != "residual" or one.kind != "additive" or one.bounded:
            problems.append(f"layer {site.layer}, {site.kind}: the map is {one.kind}")
        elif site.layer == 0:
            problems.append("layer 0: llama.cpp reads directions from layer 1 on")
    if steering.tokens != "all":
        problems.append(f"it acts on {steering.tokens} tokens only")
    if problems:
        raise InputError(
            "not a control vector: " + "; ".join(problems),
            "a control vector adds one vector per layer: use mean_difference, pca or logistic, or letheon steer bake",
        )
    return {site.layer: strength * one.shift.float() for site, one in steering.maps.items() if one.shift is not None}


def write_gguf(steering: Steering, path: Path, strength: float = 1.0) -> Path:
    """Write a control vector that llama.cpp and repeng read; the strength is multiplied in."""
    directions = directions_of(steering, strength)
    with tempfile.TemporaryDirectory(prefix="letheon-") as scratch:
        file = Path(scratch) / "vector.gguf"
        writer = GGUFWriter(file, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", steering.shape.type)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(directions))
        for layer, vector in sorted(directions.items()):
            writer.add_tensor(f"direction.{layer}", vector.numpy().astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        atomic_write_bytes(path, file.read_bytes())
    return path


def read_gguf(path: Path, model: LanguageModel) -> Steering:
    """Read a control vector of llama.cpp or repeng for a model.

    Raises:
        InputError: the file is missing, truncated, no control vector, or for another width or architecture.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", "check the path")
    try:
        reader = GGUFReader(path)
        kind = _text(reader, "general.architecture")
        hint = _text(reader, f"{ARCHITECTURE}.model_hint")
        vectors = {tensor.name: torch.tensor(np.array(tensor.data, dtype=np.float32)) for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OSError, struct.error, UnicodeDecodeError):
        size = path.stat().st_size
        raise InputError(f"{path} ({size} bytes) is not a whole GGUF file", "make or copy it again") from None
    if kind != ARCHITECTURE:
        raise InputError(f"{path} holds {kind or 'no architecture'!r}, not a control vector", "give a control vector")
    shape = Shape.of(model)
    if hint and hint != shape.type:
        raise InputError(f"{path} is for a {hint}, {shape} is none", "use it with the model that it was made from")
    return _steering(path, vectors, model, "control vector")


def read_vectors(path: Path, model: LanguageModel) -> Steering:
    """Read a safetensors file of one vector per layer, whose names end in the layer's number (`layer.12`)."""
    tensors, _ = read_tensors(path)
    return _steering(path, tensors, model, "vectors")


def read_steering(path: Path, model: LanguageModel) -> Steering:
    """Read a steering of any known format: our own file, a GGUF control vector, or safetensors of vectors by layer."""
    if path.suffix == ".gguf":
        return read_gguf(path, model)
    _, about = read_tensors(path)
    return Steering.load(path) if KEY in about else read_vectors(path, model)


def _steering(path: Path, vectors: Mapping[str, Tensor], model: LanguageModel, method: str) -> Steering:
    """Make a steering of vectors whose names end in a layer's number."""
    maps: dict[Site, Displacement] = {}
    count = len(blocks(model.base()))
    for name, vector in vectors.items():
        number = re.fullmatch(r"(?:.*\D)?(\d+)", name)
        if number is None:
            raise InputError(f"{path}: {name!r} names no layer", "name tensors like layer.12 or direction.12")
        layer = int(number[1])
        if layer >= count or vector.numel() != model.width:
            raise InputError(
                f"{path}: layer {layer} with {vector.numel()} coordinates, {Shape.of(model)}",
                "use it with the model that it was made from",
            )
        if Site(layer) in maps:
            raise InputError(f"{path} holds two vectors for layer {layer}", "leave one per layer")
        maps[Site(layer)] = Displacement(shift=vector.flatten().float())
    if not maps:
        raise InputError(f"{path} holds no vector", "give one vector per layer")
    return Steering(dict(sorted(maps.items())), Shape.of(model), f"{method} {path.name}")


def _text(reader: Any, name: str) -> str:
    field = reader.get_field(name)
    return "" if field is None else str(field.contents())
