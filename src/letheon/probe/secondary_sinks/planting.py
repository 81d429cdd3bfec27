"""Plant sinks: add the first token's direction to a token's MLP output, with a strength, and see what follows.

A state that is planted along the first token's is near it at once, and a random one is not: that checks the detection.
Whether the model treats the planted state as a sink is measured: the attention that it draws and that the first token
loses, beside a random direction of the same norm, and how long it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.model.hooks import edit, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.probe.attention_maps import summarise_attention
from letheon.probe.secondary_sinks.detect import COSINE, Profile, absolute_cosine, layer_window, profile


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
        first_score: the same of the first token's sink, from which the planted one may take attention.
        persistence: the lifetime along the added direction itself, whichever it is.
    """

    strength: float
    found: bool
    lifetime: int
    score: float
    first_score: float
    persistence: int


def lifetime_of(cosines: Float[Tensor, " layers"], layer: int, end: int) -> int:
    """Count the layers from `layer` on, before `end`, whose cosine exceeds 0.9 without a break."""
    close = [float(value) > COSINE for value in cosines[layer:end]]
    return close.index(False) if False in close else len(close)


@torch.inference_mode()
def cosines_at(
    model: LanguageModel, ids: Int[Tensor, "1 length"], position: int, first: int, direction: Float[Tensor, " width"]
) -> Float[Tensor, "2 layers"]:
    """Compute |cos| of one token's state with the first token's in the same layer, and with a direction."""
    base = model.base()
    found: dict[int, Tensor] = {}

    def look(layer: int) -> Callable[[Tensor], Tensor]:
        def see(states: Tensor) -> Tensor:
            hidden = states[0].float()
            beside = torch.stack([hidden[first], direction.to(hidden)])
            found[layer] = absolute_cosine(beside, hidden[position]).cpu()
            return states

        return see

    layers = range(len(blocks(base)))
    with edit(base, {Site(layer): look(layer) for layer in layers}):
        base(ids.to(model.device), use_cache=False, logits_to_keep=1)
    return torch.stack([found[layer] for layer in layers], 1)


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
    plain: Profile | None = None,
) -> Planted:
    """Plant a sink and measure it.

    Args:
        strength: the addition's norm as a share of the first token's.
        random_seed: plant a random direction of the same norm instead: the control.
        window: the layers to look at; by default those of the text without a planted sink.
        plain: the profile of the text without a planted sink, where it is known.
    """
    plain = plain or profile(model, ids)
    first = plain.first
    _, end = window or layer_window(plain.norms[:, first])
    direction = first_direction(model, ids, layer, first)
    addition = strength * direction
    if random_seed is not None:
        noise = torch.randn(len(direction), generator=torch.Generator().manual_seed(random_seed)).to(direction)
        addition = noise / noise.norm() * addition.norm()
    with planted(model, layer, position, addition):
        cosines, along = cosines_at(model, ids, position, first, addition)
        received = summarise_attention(model, ids).received
    last = max(end, layer + 1)
    lifetime, after = lifetime_of(cosines, layer, last), received[layer + 1 : last]
    scores = [float(after[:, :, place].mean()) if after.numel() else 0.0 for place in (position, first)]
    return Planted(strength, lifetime > 0, lifetime, scores[0], scores[1], lifetime_of(along, layer, last))
