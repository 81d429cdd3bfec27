"""Linear layers of a transformer as upright matrices [out, in], found by structure inside its blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.model.sites import blocks, is_matrix, is_transposed, mlp


@dataclass(frozen=True)
class Linear:
    """A layer s = Wa + b as one matrix [out, in], with the bias as its last column if it moves too.

    Attributes:
        module: `nn.Linear`, or transformers' `Conv1D` (GPT-2), which keeps the transposed weight.
        weight, bias: its parameters; no bias where it stays as it is.
    """

    module: nn.Module
    weight: nn.Parameter
    bias: nn.Parameter | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        rows, columns = self._upright(self.weight).shape
        return rows, columns + (self.bias is not None)

    def gradient(self) -> Float[Tensor, "out in"]:
        """The gradient of the matrix; zero for a parameter without one."""
        weight = self._upright(_gradient_of(self.weight))
        return weight if self.bias is None else torch.cat([weight, _gradient_of(self.bias)[:, None]], 1)

    @torch.no_grad()
    def move(self, step: Float[Tensor, "out in"], scale: float) -> None:
        """Add scale · step to the weights in place."""
        self.weight.add_(self._upright(step if self.bias is None else step[:, :-1]), alpha=scale)
        if self.bias is not None:
            self.bias.add_(step[:, -1], alpha=scale)

    def entered(self, activations: Float[Tensor, "... width"]) -> Float[Tensor, "... in"]:
        """The matrix's input: the activations, with a 1 appended for the bias."""
        return activations if self.bias is None else functional.pad(activations, (0, 1), value=1.0)

    def _upright(self, weight: Tensor) -> Tensor:
        return weight.T if is_transposed(self.module) else weight


def _gradient_of(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def as_linear(module: nn.Module, moving: Iterable[nn.Parameter]) -> Linear:
    """A linear module as one matrix, with its bias if the bias is among the parameters that move."""
    bias = cast("nn.Parameter | None", module.bias)
    moves = bias is not None and id(bias) in set(map(id, moving))
    return Linear(module, cast(nn.Parameter, module.weight), bias if moves else None)


def linear_layers(
    model: nn.Module, moving: Iterable[nn.Parameter], where: Literal["mlp", "all"] = "mlp"
) -> dict[str, Linear]:
    """The linear layers inside a transformer's blocks whose weights are among the parameters, by name.

    Embeddings and the output matrix, which may share their weights, lie outside the blocks and never belong to them.

    Args:
        where: in the blocks' MLPs, or everywhere in the blocks.

    Raises:
        InputError: there is none.
    """
    moving = list(moving)
    chosen = set(map(id, moving))
    parts = [mlp(block) if where == "mlp" else block for block in blocks(model)]
    inside = {id(module) for part in parts for module in part.modules()}
    found = {
        name: as_linear(module, moving)
        for name, module in model.named_modules()
        if is_matrix(module) and id(module) in inside and id(module.weight) in chosen
    }
    if not found:
        place = "the blocks' MLPs" if where == "mlp" else "the blocks"
        raise InputError(
            f"no linear layer in {place} is among the weights that may move", "choose another scope, or layers=all"
        )
    return found
