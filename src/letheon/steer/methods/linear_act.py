"""Linear-AcT: one affine map per coordinate and layer that carries source to target quantiles, in closed form.

Paper:   Rodriguez et al., Controlling Language and Diffusion Models by Transporting Activations, arXiv 2410.23054.
Differs: the authors' code refuses sets of unequal size; here the smaller one is interpolated to the larger one's
         quantiles. A coordinate that hardly varies gets a shift alone, where that code adds noise of 1e-8. The map acts
         on every value; that code's linear map acts only between the source's extremes, which is `support=range` here.
         A text's vector leaves its first token out. The MLP's input is steered in every architecture; that code steers
         the norms with `post` in their name, which in Gemma 2 are two others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Kind, Site, blocks
from letheon.core.registry import check_settings, method
from letheon.probe.linear_probes import Position, site_states
from letheon.steer.apply import steered
from letheon.steer.maps import Displacement
from letheon.steer.method import SteeringMethod, contrast_states, layers_of
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast, token_rows

# A coordinate whose source values vary less than this gets a shift alone.
LEAST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Settings:
    """The settings of the map.

    Attributes:
        layers: `all`, `middle`, a layer (7), a range (5-9) or an open one (20-).
        site: where the maps act; `mlp_input` is the output of Llama's post_attention_layernorm.
        position: the vector of a text: `mean` over all tokens but the first, or its `last` token.
        causal: fit each layer with the maps below in place; else all layers from unsteered activations.
        support: act on every value (`all`), or only on those between the source's extremes (`range`).
    """

    layers: str = "all"
    site: Kind = "mlp_input"
    position: Position = "mean"
    causal: bool = True
    support: Literal["all", "range"] = "all"

    def __post_init__(self) -> None:
        check_settings(self)


def at_equal_quantiles(
    source: Float[Tensor, "n width"], target: Float[Tensor, "m width"]
) -> tuple[Float[Tensor, "k width"], Float[Tensor, "k width"]]:
    """Sort both sets per coordinate; the smaller one is interpolated to as many quantiles as the larger has."""
    count = max(len(source), len(target))
    levels = torch.linspace(0, 1, count, dtype=source.dtype, device=source.device)
    one, other = (s.sort(0).values if len(s) == count else torch.quantile(s, levels, 0) for s in (source, target))
    return one, other


def linear_transport(
    source: Float[Tensor, "n width"], target: Float[Tensor, "m width"]
) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Return weight and bias of the least-squares line through the sorted pairs: w = cov(x, y) / var(x)."""
    x, y = at_equal_quantiles(source, target)
    centred = x - x.mean(0)
    variance = centred.square().mean(0)
    covariance = (centred * (y - y.mean(0))).mean(0)
    flat = variance < LEAST_VARIANCE
    weight = torch.where(flat, torch.ones_like(variance), covariance / variance.clamp(min=LEAST_VARIANCE))
    return weight, y.mean(0) - weight * x.mean(0)


@method("steering", "linear_act", Settings, paper="2410.23054", seeded=False)
class LinearAcT(SteeringMethod):
    settings: Settings

    def fit(self, model: LanguageModel, contrast: Contrast, seed: int = 0) -> Steering:
        """Fit layer by layer, from the lowest on."""
        options = self.settings
        sites = [Site(layer, options.site) for layer in layers_of(options.layers, len(blocks(model.base())))]
        target, source = contrast_states(model, contrast, sites, options.position)
        away = token_rows(model, contrast.away)
        maps: dict[Site, Displacement] = {}
        for at, site in enumerate(sites):
            states = source[at]
            if options.causal and maps:
                with steered(model, Steering(maps, Shape.of(model), "linear_act")):
                    states = site_states(model, away, [site], position=options.position)[0]
            weight, bias = linear_transport(states, target[at])
            bounds = (states.amin(0), states.amax(0)) if options.support == "range" else (None, None)
            maps[site] = Displacement(weight - 1, bias, *bounds)
        return Steering(maps, Shape.of(model), "linear_act")
