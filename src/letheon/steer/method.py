"""The base of steering methods: a method fits maps on the states of two sets of texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.core.parts import read_part
from letheon.core.registry import Configured
from letheon.probe.linear_probes import Position, site_states
from letheon.steer.maps import Displacement
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast, token_rows

States = Float[Tensor, "rows width"]


class SteeringMethod(Configured):
    """Base of steering methods.

    Attributes:
        mixture: whether it steers mixtures of experts only.
    """

    mixture: ClassVar[bool] = False

    def fit(self, model: LanguageModel, contrast: Contrast, seed: int = 0) -> Steering:
        """Fit a steering toward the one set of texts and away from the other; the model is left as it was."""
        raise TypeError(f"{type(self).__name__} fits nothing: write fit()")


def fit(model: LanguageModel, contrast: Contrast, method: str = "mean_difference", *, seed: int = 0) -> Steering:
    """Fit a steering by a method as it is written on the command line, such as `lineas:steps=200`.

    Raises:
        InputError: an unknown method or option, or texts that do not fit it.
    """
    part = read_part("steering", method)
    made: SteeringMethod = part.make()
    steering = made.fit(model, contrast, seed)
    steering.check(model)
    return steering


@dataclass(frozen=True)
class DirectionSettings:
    """The settings of methods that add one direction per layer.

    Attributes:
        layers: `middle` (one, at half the depth), `all`, a layer (7), a range (5-9) or an open one (20-).
        position: the token whose state stands for a text: `last`, or `mean` over all but the first.
    """

    layers: str = "middle"
    position: Position = "last"


class DirectionMethod(SteeringMethod):
    """Base of methods that find one direction per layer and add it to the residual stream.

    At strength 1 the direction has the length by which the means of the two sets differ along it. Where several layers
    are steered, each adds its own difference less that of the steered layer below, which the stream brings along.
    """

    settings: DirectionSettings
    name: str

    def direction(self, toward: States, away: States) -> Float[Tensor, " width"]:
        """Return the direction from the one set's states to the other's; its length does not matter."""
        raise TypeError(f"{type(self).__name__} finds no direction: write direction()")

    def fit(self, model: LanguageModel, contrast: Contrast, seed: int = 0) -> Steering:
        """Fit one direction per layer."""
        sites = [Site(layer) for layer in layers_of(self.settings.layers, len(blocks(model.base())))]
        toward, away = contrast_states(model, contrast, sites, self.settings.position)
        maps, below, separation = {}, torch.zeros(model.width), {}
        for site, good, bad in zip(sites, toward, away, strict=True):
            shift = scaled_to_means(self.direction(good, bad), good, bad)
            maps[site] = Displacement(shift=shift - below)
            below = shift
            separation[str(site.layer)] = separation_along(shift, good, bad)
        return Steering(maps, Shape.of(model), self.name, facts={"separation": separation})


def layers_of(text: str, count: int) -> list[int]:
    """Read layers: `middle`, `all`, `7`, `5-9` or `20-`.

    Raises:
        InputError: the text is none of these, or a layer is not there.
    """
    if text == "all":
        return list(range(count))
    if text == "middle":
        return [count // 2]
    if not re.fullmatch(r"\d+(-\d*)?", text):
        raise InputError(f"layers: found {text!r}", "write middle, all, one layer (7), a range (5-9) or 20-")
    first, dash, last = text.partition("-")
    end = int(last) if last else (count - 1 if dash else int(first))
    if int(first) > end or end >= count:
        raise InputError(f"layers {text} asked for, the model has 0-{count - 1}", "choose among them")
    return list(range(int(first), end + 1))


def contrast_states(
    model: LanguageModel, contrast: Contrast, sites: list[Site], position: Position
) -> tuple[Float[Tensor, "sites toward width"], Float[Tensor, "sites away width"]]:
    """Return the states of both sets of texts at sites of equal width."""
    rows = [token_rows(model, texts) for texts in (contrast.toward, contrast.away)]
    toward, away = (site_states(model, ids, sites, position=position) for ids in rows)
    return toward, away


def scaled_to_means(direction: Float[Tensor, " width"], toward: States, away: States) -> Float[Tensor, " width"]:
    """Scale a direction to the difference of the two means along it, whose sign it gets.

    Raises:
        InputError: the direction is zero.
    """
    length = direction.norm()
    if not bool(length > 0):
        raise InputError("the two sets of texts have the same states", "give texts that differ")
    unit = direction / length
    return unit * ((toward.mean(0) - away.mean(0)) @ unit)


def separation_along(direction: Float[Tensor, " width"], toward: States, away: States) -> float:
    """Return the share of pairs (a text of each set) that the direction puts in the right order; 0.5 is chance."""
    good, bad = toward @ direction, away @ direction
    return float((good[:, None] > bad[None]).float().mean())
