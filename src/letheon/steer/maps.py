"""Maps on activations: a displacement of the value at each coordinate, and a switch of a router's experts.

An elementwise map displaces an activation z by s·(gain ⊙ z + shift), where s is the strength. Additive maps have no
gain, multiplicative maps no shift, affine maps have both: with weights w = 1 + gain it is
z -> (1 + s(w - 1)) ⊙ z + s·shift. Displacements of several maps at one site are computed from the same z and added.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.core.errors import InputError

OFF, DEFAULT, ON = -1, 0, 1


@dataclass(frozen=True, eq=False)
class Displacement:
    """An elementwise map at one site.

    Attributes:
        gain: factor on the activation, per coordinate; None in an additive map.
        shift: constant per coordinate; None in a multiplicative map.
        low, high: bounds per coordinate; a value that is not strictly between them is left as it is.
    """

    gain: Float[Tensor, " width"] | None = None
    shift: Float[Tensor, " width"] | None = None
    low: Float[Tensor, " width"] | None = None
    high: Float[Tensor, " width"] | None = None

    def __post_init__(self) -> None:
        if self.gain is None and self.shift is None:
            raise InputError("a map without gain and shift", "give at least one of the two")
        if (self.low is None) != (self.high is None):
            raise InputError("a map with one bound", "give both low and high, or neither")
        if any(not bool(torch.isfinite(one).all()) for one in (self.gain, self.shift) if one is not None):
            raise InputError("a map that holds NaN or infinity", "fit it again with fewer steps or a lower rate")

    @property
    def kind(self) -> str:
        """`additive`, `multiplicative` or `affine`."""
        if self.gain is None:
            return "additive"
        return "multiplicative" if self.shift is None else "affine"

    @property
    def width(self) -> int:
        """The number of coordinates."""
        return len(next(tensor for tensor in self.tensors().values()))

    @property
    def bounded(self) -> bool:
        """Whether values outside bounds are left as they are."""
        return self.low is not None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that the map has, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def at(self, strength: float, like: Tensor) -> Displacement:
        """Return the map with its strength multiplied in, on the device of a tensor and in float32 at least."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        moved = {name: tensor.to(like.device, dtype) for name, tensor in self.tensors().items()}
        for name in ("gain", "shift"):
            if name in moved:
                moved[name] = moved[name] * strength
        return replace(self, **moved)

    def displace(self, states: Float[Tensor, "*batch width"]) -> Tensor:
        """Compute gain ⊙ z + shift, zero where z is outside the bounds; an additive map's has the shape [width]."""
        moved = self.shift
        if self.gain is not None:
            moved = self.gain * states if moved is None else torch.addcmul(moved, self.gain, states)
        assert moved is not None
        if self.low is not None and self.high is not None:
            moved = moved * ((states > self.low) & (states < self.high))
        return moved

    def support(self) -> Bool[Tensor, " width"]:
        """Return which coordinates the map changes."""
        changed = torch.zeros(self.width, dtype=torch.bool)
        for tensor in (self.gain, self.shift):
            if tensor is not None:
                changed |= tensor != 0
        return changed


@dataclass(frozen=True, eq=False)
class Switch:
    """A control of one router's experts.

    Attributes:
        table: per expert -1 (off), 0 (as the router decides) or 1 (on).
        before_choice: an expert that is off leaves before the router's choice, so that the next best takes its place;
            else its weight goes to the other chosen experts.
    """

    table: Int[Tensor, " experts"]
    before_choice: bool = False

    def __post_init__(self) -> None:
        if not bool(torch.isin(self.table, torch.tensor([OFF, DEFAULT, ON])).all()):
            raise InputError("a switch holds a number besides -1, 0 and 1", "write -1 off, 0 default, 1 on")

    @property
    def kind(self) -> str:
        """`switching`."""
        return "switching"

    @property
    def width(self) -> int:
        """The number of experts."""
        return len(self.table)


Map = Displacement | Switch
