"""Plant sinks: add the first token's direction to a token's MLP output, with a strength, and see what follows.

A planted sink must be found, draw attention, and last longer the stronger it is; a random direction of the same norm
must not be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.model.hooks import edit, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.probe.attention_maps import summarise_attention
from letheon.probe.secondary_sinks.detect import COSINE, layer_window, profile


@contextmanager
def planted(model: LanguageModel, layer: int, position: int, addition: Float[Tensor, " width"]) -> Iterator[None]:
    """Add a vector to the MLP's output of one layer at one position while the block runs."""

    def add(output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, position] += addition.to(output)
        return changed

    with edit(model.base(), {Site(layer, "mlp"): add}):
        yield


@dataclass(frozen=True)
class Planted:
    """What became of one planted sink.

    Attributes:
        strength: the addition's norm over the norm of the first token's state.
        found: whether its state points along the first token's (|cos| > 0.9) at the planting layer.
        lifetime: number of layers from there on, within the window, at which it does without a break.
        score: mean attention that it receives in the layers after, over heads and the queries that see it.
    """

    strength: float
    found: bool
    lifetime: int
    score: float


@torch.inference_mode()
def first_direction(
    model: LanguageModel, ids: Int[Tensor, "1 length"], layer: int, first: int
) -> Float[Tensor, " width"]:
    """Return the first token's state after a layer: the direction and the norm of its sink."""
    with record(model.base(), [Site(layer)]) as found:
        model.base()(ids.to(model.device), use_cache=False, logits_to_keep=1)
    return found[Site(layer)][0, first].float()


def plant_and_measure(
    model: LanguageModel,
    ids: Int[Tensor, "1 length"],
    layer: int,
    position: int,
    strength: float,
    *,
    random_seed: int | None = None,
    window: tuple[int, int] | None = None,
) -> Planted:
    """Plant a sink and measure it.

    Args:
        strength: the addition's norm as a share of the first token's.
        random_seed: plant a random direction of the same norm instead: the control.
        window: the layers to look at; by default those of the text without a planted sink.
    """
    plain = profile(model, ids)
    first = plain.first
    _, end = window or layer_window(plain.norms[:, first])
    direction = first_direction(model, ids, layer, first)
    addition = strength * direction
    if random_seed is not None:
        noise = torch.randn(len(direction), generator=torch.Generator().manual_seed(random_seed)).to(direction)
        addition = noise / noise.norm() * addition.norm()
    with planted(model, layer, position, addition):
        cosines = profile(model, ids).to_first()[:, position]
        received = summarise_attention(model, ids).received
    lifetime, last = 0, max(end, layer + 1)
    while layer + lifetime < last and float(cosines[layer + lifetime]) > COSINE:
        lifetime += 1
    after = received[layer + 1 : last, :, position]
    return Planted(strength, lifetime > 0, lifetime, float(after.mean()) if after.numel() else 0.0)
