"""Controls for the add-ons: modules of equal cost that lack the idea.

`Adapter` adds as many parameters at the same place and has no memory. `LongAttention` is one plain head of attention to
the same states as reweaving, `RandomGate` reweaving with a random gate; `StrangeResonance` is synaptic resonance with
another text's rho.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from letheon.attend.addon import AddOn, Call, Edit, zeroed
from letheon.attend.resonance import Layer, Resonance, SynapticResonance
from letheon.attend.reweaving import Reweaving
from letheon.attend.reweaving import Settings as ReweavingSettings
from letheon.core.model.sites import Site
from letheon.core.registry import Checked


@dataclass(frozen=True)
class Settings(Checked, positive=("parameters",)):
    """The place and the width of the adapter.

    Attributes:
        layer: the layer whose output it adds to; None: the layer at three quarters of the depth, as in `reweaving`.
        parameters: approximate number of parameters.
    """

    layer: int | None = None
    parameters: int = 10_000


class Adapter(AddOn):
    """H + W_up gelu(W_down norm(H)): a bottleneck adapter (Houlsby et al., arXiv 1902.00751); W_up starts at zero."""

    name = "adapter"

    def __init__(self, width: int, layers: int, settings: Settings) -> None:
        super().__init__(width, layers, settings)
        self.layer = max(0, layers * 3 // 4 - 1) if settings.layer is None else settings.layer
        inner = max(1, settings.parameters // (2 * width + 1))
        self.norm, self.down = nn.RMSNorm(width), nn.Linear(width, inner)
        self.up = zeroed(nn.Linear(inner, width, bias=False))

    def edits(self) -> Mapping[Site, Edit]:
        def change(hidden: Tensor, call: Call) -> Tensor:
            return hidden + self.up(functional.gelu(self.down(self.norm(hidden.float())))).to(hidden.dtype)

        return {Site(self.layer): change}


class LongAttention(Reweaving):
    """A head of causal attention from a layer's states to its own earlier ones: no salience, no gate, no mixture.

    Give it one captured layer and `window=1`; `reconstruction` and `openness` have no effect.
    """

    name = "attention"

    def __init__(self, width: int, layers: int, settings: ReweavingSettings) -> None:
        super().__init__(width, layers, replace(settings, reconstruction=0.0, openness=0.0))
        del self.gate, self.decode

    def opening(self, x: Tensor) -> Tensor:
        """Return ones [batch, length, 1]."""
        return torch.ones_like(x[..., :1])

    def _remember(self, states: Tensor, positions: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        keys, values = super()._remember(states, positions, call)
        return torch.cat([keys[..., :-2], torch.zeros_like(keys[..., :1]), keys[..., -1:]], -1), values


class RandomGate(Reweaving):
    """Reweaving with a gate that is uniformly random between closed and open."""

    name = "random gate"

    def opening(self, x: Tensor) -> Tensor:
        """Return random numbers [batch, length, 1]."""
        return torch.rand_like(x[..., :1])


class _Strange(Resonance):
    def rho(self, agreement: Tensor, relevance: Tensor) -> Tensor:
        return super().rho(agreement, relevance).roll(1, 0)


class _StrangeLayer(Layer):
    drive = _Strange


class StrangeResonance(SynapticResonance):
    """Synapses with the rho of the batch's next row, which belongs to another text; for whole rows only."""

    name = "strange resonance"
    layer = _StrangeLayer
