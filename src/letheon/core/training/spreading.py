"""Spreading a model's weights from process 0 over the other processes of a job, unit by unit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from letheon.core.processes import is_main_process


def share_adapter(model: nn.Module, device: torch.device) -> set[nn.Parameter]:
    """Give every process process 0's weights of the adapter, on the device; return them."""
    made = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            made[id(parameter)] = nn.Parameter(_broadcast(parameter.detach(), device), parameter.requires_grad)
    _replace(model, made)
    return set(made.values())


def without_weights(model: nn.Module, adapter: set[nn.Parameter]) -> nn.Module:
    """Copy a model with its base's weights on the meta device and the same adapter."""
    memo: dict[int, Any] = {
        id(p): p if p in adapter else nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
        for p in model.parameters()
    }
    return copy.deepcopy(model, memo)


def leave_to_main(model: nn.Module, adapter: set[nn.Parameter]) -> None:
    """Move the base's weights to host memory in process 0, and drop them in the others."""
    place = "cpu" if is_main_process() else "meta"
    others = [p for p in model.parameters() if p not in adapter and p.device.type != place]
    _replace(model, {id(p): nn.Parameter(p.detach().to(place), p.requires_grad) for p in others})


class Filler:
    """Fills a copy without weights with process 0's weights, unit by unit; weights that are tied stay tied.

    Attributes:
        made: the weights that the last unit was filled with, by the identity of the empty ones.
    """

    def __init__(self, source: nn.Module, copied: nn.Module, device: torch.device) -> None:
        self.source, self.copied, self.device = source, copied, device
        self.empty = {id(p): (name, p) for name, p in copied.named_parameters() if p.is_meta}
        self.made: dict[int, nn.Parameter] = {}

    def weights(self, unit: nn.Module) -> None:
        """Fill the weights of a unit that are still empty, wherever in the model they stand."""
        self.made = {}
        for parameter in list(unit.parameters()):
            if id(parameter) in self.empty:
                name, empty = self.empty[id(parameter)]
                whole = _broadcast(self.source.get_parameter(name).detach(), self.device)
                self.made[id(parameter)] = nn.Parameter(whole, empty.requires_grad)
        _replace(self.copied, self.made)

    def drop(self) -> None:
        """Hold the whole weights of the last unit no longer: its shards stand in their place."""
        self.made = {}

    def buffers(self) -> None:
        """Fill all buffers."""
        for name in [name for name, _ in self.copied.named_buffers()]:
            owner, _, key = name.rpartition(".")
            self.copied.get_submodule(owner)._buffers[key] = _broadcast(self.source.get_buffer(name), self.device)


def _replace(model: nn.Module, made: Mapping[int, nn.Parameter]) -> None:
    """Put other parameters in the place of those with these identities; weights that are tied stay tied."""
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in made:
                module._parameters[key] = made[id(parameter)]


def _broadcast(tensor: Tensor, device: torch.device) -> Tensor:
    here = (
        tensor.to(device, copy=True).contiguous() if dist.get_rank() == 0 else torch.empty_like(tensor, device=device)
    )
    dist.broadcast(here, 0)
    return here
