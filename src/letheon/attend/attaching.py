"""Add-ons for a pretrained model: attached, trained beside frozen weights, switched off, saved and loaded.

addons = attach(model, "reweaving")
finetune(model, rows, TrainSettings(), 200, parameters=addons.parameters(), penalty=addons.penalty)
addons.save("addons/")                      # later: load_addons(model, "addons/")
with addons.off(): ...                      # bit for bit the model as it was
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from letheon.attend.addon import AddOn, Call, Edit
from letheon.core.atomic import atomic_folder, read_json, write_json
from letheon.core.errors import InputError, nearest
from letheon.core.model.hooks import edit, on_calls
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks

# Name -> module, class and settings.
KNOWN = {
    "reweaving": ("letheon.attend.reweaving", "Reweaving", "Settings"),
    "resonance": ("letheon.attend.resonance", "SynapticResonance", "Settings"),
    "adapter": ("letheon.attend.controls", "Adapter", "Settings"),
}
WEIGHTS, DESCRIPTION = "addons.safetensors", "addons.json"


class AddOns:
    """The add-ons of a model; made by `attach` or `load_addons`.

    Attributes:
        modules: the add-ons by name, in the order in which they act on a shared site.
        on: whether the add-ons act.
    """

    def __init__(self, model: LanguageModel, modules: Mapping[str, AddOn]) -> None:
        self.model, self.modules, self.on = model, dict(modules), True
        self._call, self._mask = Call(), None
        self._stack = ExitStack()
        base = model.base()
        self._stack.enter_context(on_calls(base, self._see_model))
        self._stack.enter_context(on_calls(blocks(base)[0], self._see_block))
        chains: dict[Site, list[Edit]] = {}
        for module in self.modules.values():
            for site, change in module.edits().items():
                chains.setdefault(site, []).append(change)
        self._stack.enter_context(edit(base, {site: self._apply(chain) for site, chain in chains.items()}))

    def _see_model(self, arguments: Mapping[str, Any]) -> None:
        self._mask = arguments.get("attention_mask")

    def _see_block(self, arguments: Mapping[str, Any]) -> None:
        cache = arguments.get("cache", arguments.get("past_key_values"))
        before = cache.get_seq_length() if cache is not None else 0
        self._call = Call(self._mask, arguments.get("position_ids"), cache, before)

    def _apply(self, chain: list[Edit]) -> Callable[[Tensor], Tensor]:
        def change(hidden: Tensor) -> Tensor:
            if self.on:
                for one in chain:
                    hidden = one(hidden, self._call)
            return hidden

        return change

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the add-ons' parameters by name, without the model's own."""
        return {f"{name}.{key}": p for name, one in self.modules.items() for key, p in one.named_parameters()}

    def penalty(self) -> Float[Tensor, ""]:
        """Return the sum of the add-ons' own terms of the training loss, from the last forward pass."""
        return torch.stack([one.penalty().to(self.model.device) for one in self.modules.values()]).sum()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within the block the model acts, bit for bit, as without add-ons."""
        before, self.on = self.on, False
        try:
            yield
        finally:
            self.on = before

    def detach(self) -> None:
        """Remove the add-ons from the model."""
        self._stack.close()

    def save(self, folder: str | Path) -> Path:
        """Write the add-ons' weights and settings to a folder, whole or not at all, without the model."""
        tensors = {name: p.detach().contiguous().cpu() for name, p in self.parameters().items()}
        config = {name: dataclasses.asdict(one.settings) for name, one in self.modules.items()}
        with atomic_folder(Path(folder), needed_bytes=sum(4 * t.numel() for t in tensors.values())) as temporary:
            save_file(tensors, temporary / WEIGHTS)
            write_json(temporary / DESCRIPTION, {"base": self.model.name, "addons": config})
        return Path(folder)


def attach(model: LanguageModel, names: str, settings: Mapping[str, Any] | None = None, seed: int = 0) -> AddOns:
    """Add add-ons to a model; untrained add-ons change no bit of its output.

    Args:
        model: a causal language model; its weights stay as they are.
        names: `reweaving`, `resonance`, `adapter` (a control without memory), or several joined by `+`.
        settings: settings by add-on, where they are not the defaults.
        seed: seed of the first weights.

    Raises:
        InputError: an unknown name, a repeated name, settings of an add-on that is not named, or layers that the model
            does not have.
    """
    wanted = names.split("+")
    given = dict(settings or {})
    kinds = {name: _kind_and_options(name) for name in [*wanted, *given]}
    if len(set(wanted)) < len(wanted) or not set(given) <= set(wanted):
        raise InputError(f"add-ons {names!r} with settings for {list(given)}", "name each add-on once")
    layers = blocks(model.base())
    width = model.base().get_input_embeddings().weight.shape[1]
    modules: dict[str, AddOn] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in wanted:
            kind, options = kinds[name]
            modules[name] = kind(width, len(layers), given.get(name) or options()).to(model.device)
    return AddOns(model, modules)


def load_addons(model: LanguageModel, folder: str | Path) -> AddOns:
    """Add saved add-ons to the model that they were trained with.

    Raises:
        InputError: no such folder, an unreadable description, or weights that do not fit the model.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file() or not (Path(folder) / WEIGHTS).is_file():
        raise InputError(f"{folder} holds no {DESCRIPTION} and {WEIGHTS}", "give a folder written by AddOns.save")
    try:
        saved = {name: _settings(name, values) for name, values in read_json(path)["addons"].items()}
        weights = load_file(Path(folder) / WEIGHTS)
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder} cannot be read: {error}", "give a folder written by AddOns.save") from None
    addons = attach(model, "+".join(saved), saved)
    parameters = addons.parameters()
    wrong = sorted(set(weights) ^ set(parameters)) or [n for n, p in parameters.items() if p.shape != weights[n].shape]
    if wrong:
        addons.detach()
        raise InputError(f"{folder}: {wrong[0]} does not fit {model.name}", "load the model that it was trained with")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return addons


def _settings(name: str, values: Mapping[str, Any]) -> Any:
    _, options = _kind_and_options(name)
    return options(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _kind_and_options(name: str) -> tuple[Callable[..., AddOn], Callable[..., Any]]:
    if name not in KNOWN:
        raise InputError(f"there is no add-on {name!r}", nearest(name, list(KNOWN)))
    place, *names = KNOWN[name]
    kind, options = (getattr(import_module(place), one) for one in names)
    return kind, options
