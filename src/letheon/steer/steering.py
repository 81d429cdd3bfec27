"""The artefact of steering: maps by site, for one model, in a safetensors file with its metadata.

A file names the model that it was fitted on, by architecture, number of layers, width and vocabulary, and is refused
for a model of another shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from letheon.core.atomic import atomic_write_bytes
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Kind, Site, blocks, module_at, sides
from letheon.steer.maps import Displacement, Map, Switch
from letheon.steer.positions import Tokens, check_tokens
from letheon.steer.routers import routers

KEY, FORMAT = "letheon_steering", 1
# The site of a switch: the router of a mixture-of-experts layer.
ROUTER = "router"


@dataclass(frozen=True)
class Shape:
    """The shape of a model, by which a file for another one is recognised.

    Attributes:
        name: the model's name when the file was written; it is shown and not compared.
        type: architecture, such as `llama`.
        layers: number of blocks.
        width: length of a hidden state.
        vocabulary: number of logits; 0 where a file does not say.
    """

    name: str
    type: str
    layers: int
    width: int
    vocabulary: int = 0

    @classmethod
    def of(cls, model: LanguageModel) -> Shape:
        """Return a model's shape."""
        base = model.base()
        return cls(model.name, str(base.config.model_type), len(blocks(base)), model.width, model.vocabulary)

    def __str__(self) -> str:
        vocabulary = f", vocabulary {self.vocabulary}" if self.vocabulary else ""
        return f"{self.name} ({self.type}, {self.layers} layers, width {self.width}{vocabulary})"

    def fits(self, other: Shape) -> bool:
        """Return whether both are shapes of the same model or of one that was trained from it."""
        sizes = self.layers == other.layers and self.width == other.width
        return (
            sizes
            and (not self.type or self.type == other.type)
            and (not self.vocabulary or self.vocabulary == other.vocabulary)
        )


@dataclass(frozen=True, eq=False)
class Steering:
    """Maps by site, fitted on one model.

    Attributes:
        maps: elementwise maps by site.
        switches: switches of experts by layer.
        shape: the model's shape.
        method: the method that made it, as it is written on the command line.
        tokens: the tokens that it acts on: `all`, `prompt`, `generated` or `last` (the prompt's last).
        facts: what the method reports, such as losses and chosen layers; plain values.
    """

    maps: Mapping[Site, Displacement]
    shape: Shape
    method: str
    switches: Mapping[int, Switch] = field(default_factory=dict)
    tokens: Tokens = "all"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tokens(self.tokens)
        for layer in (*(site.layer for site in self.maps), *self.switches):
            if not 0 <= layer < self.shape.layers:
                raise InputError(
                    f"a map for layer {layer}, {self.shape.name} has layers 0 to {self.shape.layers - 1}",
                    "choose a layer that the model has",
                )

    @property
    def kinds(self) -> list[str]:
        """The kinds of its maps: additive, affine, multiplicative, switching."""
        every: list[Map] = [*self.maps.values(), *self.switches.values()]
        return sorted({one.kind for one in every})

    def check(self, model: LanguageModel) -> None:
        """Raise an `InputError` that names both models if this steering is for another one, or a site is missing."""
        present = Shape.of(model)
        if not self.shape.fits(present):
            raise InputError(f"the steering is for {self.shape}, not for {present}", "fit it on this model")
        for site, one in self.maps.items():
            if one.width != (width := site_width(model, site)):
                raise InputError(
                    f"layer {site.layer}, {site.kind}: the map has {one.width} coordinates, the model {width}",
                    "fit it on this model",
                )
        experts = {layer: router.experts for layer, router in routers(model.base()).items()} if self.switches else {}
        for layer, switch in self.switches.items():
            if experts.get(layer) != switch.width:
                there = f"{experts[layer]} experts" if layer in experts else "no router"
                raise InputError(
                    f"layer {layer}: a switch of {switch.width} experts, the model has {there} there",
                    "use a mixture-of-experts model of the same shape",
                )

    def random_like(self, seed: int) -> Steering:
        """Return a steering of random directions whose tensors have the same norms (switches: shuffled experts)."""
        draw = torch.Generator().manual_seed(seed)

        def drawn(tensor: Tensor) -> Tensor:
            noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float32)
            return (noise * (tensor.float().norm() / noise.norm())).to(tensor.dtype)

        maps = {
            site: replace(one, **{name: drawn(t) for name, t in one.tensors().items() if name in ("gain", "shift")})
            for site, one in self.maps.items()
        }
        switches = {
            layer: replace(one, table=one.table[torch.randperm(one.width, generator=draw)])
            for layer, one in self.switches.items()
        }
        return replace(self, maps=maps, switches=switches, method=f"random {seed}, norms of {self.method}")

    def save(self, path: Path) -> Path:
        """Write the file atomically."""
        tensors = {
            f"{site.kind}.{site.layer}.{name}": tensor.contiguous()
            for site, one in self.maps.items()
            for name, tensor in one.tensors().items()
        }
        tensors |= {f"{ROUTER}.{layer}.table": one.table.to(torch.int8) for layer, one in self.switches.items()}
        about = {
            "format": FORMAT,
            "model": asdict(self.shape),
            "method": self.method,
            "tokens": self.tokens,
            "before_choice": sorted(layer for layer, one in self.switches.items() if one.before_choice),
            "facts": dict(self.facts),
        }
        atomic_write_bytes(path, save(tensors, {KEY: json.dumps(about, ensure_ascii=False)}))
        return path

    @classmethod
    def load(cls, path: Path) -> Steering:
        """Read a file that `save` wrote.

        Raises:
            InputError: the file is missing, torn, or no steering.
        """
        tensors, about = read_tensors(path)
        if KEY not in about:
            raise InputError(f"{path} holds no steering", "give a file of `letheon steer fit`")
        try:
            header = json.loads(about[KEY])
            if header["format"] != FORMAT:
                raise InputError(f"{path} has format {header['format']}, known is {FORMAT}", "use a newer letheon")
            maps: dict[Site, dict[str, Tensor]] = {}
            switches: dict[int, Switch] = {}
            for key, tensor in tensors.items():
                kind, layer, name = key.split(".")
                if kind == ROUTER:
                    switches[int(layer)] = Switch(tensor.long(), int(layer) in header["before_choice"])
                elif kind in get_args(Kind):
                    maps.setdefault(Site(int(layer), kind), {})[name] = tensor  # type: ignore[arg-type]  # kind was checked
                else:
                    raise InputError(f"{path}: no site is called {kind!r}", "use a newer letheon")
            made = {site: Displacement(**parts) for site, parts in sorted(maps.items())}
            return cls(made, Shape(**header["model"]), header["method"], switches, header["tokens"], header["facts"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is no steering that can be read: {error}", "fit it again") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        InputError: the file is missing, torn, or of another format; pickles are never read.
    """
    if path.suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise InputError(
            f"{path} is a pickle, a format that can run code",
            "save its tensors with safetensors.torch.save_file({f'layer.{i}': v for i, v in layers.items()}, FILE)",
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118  # not a dictionary
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}", "make or copy it again") from None


def site_width(model: LanguageModel, site: Site) -> int:
    """Return the number of coordinates of a site's activations."""
    module = module_at(model.base(), site)
    return sides(module)[1] if site.kind in ("heads", "neurons") else model.width
